"""The same plan as events in time: the oracle of the max-plus engine, and several times slower.

Nothing here is shared with `maxplus.py` but the timing. A heap holds what will happen. When it
does, counters move, and whatever may have waited for them looks again whether it can go on; credits
are counted in bytes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from hetc.backends.dataflow.simulate.heap_states import LinkState, QueueState, StageState
from hetc.backends.dataflow.simulate.tally import Outcome, Tally
from hetc.backends.dataflow.simulate.timing import Gate, Move, Read, Timing, Turn, Wait, When
from hetc.errors import BackendError


def run_heap(timing: Timing, tokens: int) -> Outcome:
    """Simulate `tokens`, every tile of them; BackendError HETC-L104 where the plan stands still."""
    chip = _Chip(timing, tokens)
    chip.run()
    return Outcome(tuple(chip.token_ends), chip.tallies[-1], tuple(chip.peak))


class _Chip:
    def __init__(self, timing: Timing, tokens: int) -> None:
        self.timing = timing
        self.turns: tuple[Turn, ...] = timing.turns * tokens
        self.before: list[list[int]] = []
        self.turns_of: list[list[int]] = [[] for _ in timing.segments]
        for number, turn in enumerate(self.turns):
            self.before.append([len(turns) for turns in self.turns_of])
            self.turns_of[turn.segment].append(number)
        # The link that is served in turn, and the share of it that each other stage has.
        self.links: dict[int | None, LinkState] = {None: LinkState()}
        for number, turn in enumerate(self.turns):
            for stage in timing.segments[turn.segment].stages:
                if timing.stages[stage].wire:
                    link = self.links.setdefault(self._link(stage), LinkState())
                    link.exchanges.append((stage, self.before[number][turn.segment]))
        self.tallies = [Tally.zero(timing) for _ in range(tokens)]
        self.token_ends: list[float] = []
        self.events: list[tuple[float, bool, int, Callable[[int], None], int]] = []
        self.serial = 0
        self.now = 0.0
        self.begun = self.finished = 0
        self.beginning = False
        self.last_finish = 0.0
        self.stages = [StageState() for _ in timing.stages]
        self.queues = [QueueState() for _ in timing.queues]
        self.issued = [0] * len(timing.flows)
        self.arrived: list[list[float]] = [[] for _ in timing.flows]
        # Tiles of all passes, of which the last one frees their room.
        self.taken = [0] * len(timing.flows)
        self.held = [0] * len(timing.flows)
        self.peak = [0] * len(timing.flows)
        self.moved = [0] * timing.moves
        self.started = [0] * timing.moves

    def _link(self, stage: int) -> int | None:
        return stage if self.timing.stages[stage].share < 1 else None

    def run(self) -> None:
        self._settle()
        turns = len(self.turns)
        while self.finished < turns or any(queue.turn < turns for queue in self.queues):
            if not self.events:
                stuck = [
                    stage.name
                    for stage, state in zip(self.timing.stages, self.stages, strict=True)
                    if state.open
                ]
                raise BackendError(
                    "HETC-L104", "the plan stands still", at=", ".join(stuck) or "the program"
                )
            self.now, _, _, happen, index = heapq.heappop(self.events)
            happen(index)

    def _at(self, time: float, happen: Callable[[int], None], index: int) -> None:
        # What frees credits comes first where two things happen at the same time.
        self.serial += 1
        late = happen != self._has_taken
        heapq.heappush(self.events, (time, late, self.serial, happen, index))

    def _settle(self) -> None:
        """Let everything go on that can, until nothing can any more at this time."""
        moving = True
        while moving:
            moving = self._begin() or self._finish()
            for link in self.links.values():
                moving = self._send(link) or moving
            for index in range(len(self.stages)):
                moving = self._advance(index) or moving
            for index in range(len(self.queues)):
                moving = self._serve(index) or moving

    def _begin(self) -> bool:
        if self.begun == len(self.turns) or self.beginning:
            return False
        turn = self.turns[self.begun]
        if self.begun and not turn.opens and turn.fence is None:
            self.begun += 1
            return True
        if self.finished < self.begun:
            return False
        overhead = self.timing.overhead if self.begun and turn.opens else 0.0
        self.beginning = True
        self._at(self.now + overhead + (turn.fence or 0.0), self._has_begun, 0)
        return True

    def _has_begun(self, _: int) -> None:
        self.beginning = False
        self.begun += 1
        self._settle()

    def _finish(self) -> bool:
        if self.finished == len(self.turns):
            return False
        segment = self.timing.segments[self.turns[self.finished].segment]
        execution = self.before[self.finished][self.turns[self.finished].segment]
        if any(self.stages[stage].ended <= execution for stage in segment.stages):
            return False
        self._tally(self.finished).blocks[segment.block] += self.now - self.last_finish
        self.last_finish = self.now
        self.finished += 1
        if self.finished % len(self.timing.turns) == 0:
            self.token_ends.append(self.now)
        return True

    def _tally(self, turn: int) -> Tally:
        return self.tallies[turn // len(self.timing.turns)]

    def _has_happened(self, wait: Wait, turn: int) -> bool:
        execution = self.before[turn][self.turns[turn].segment]
        if wait.when is When.LATEST:
            needed = self.before[turn][self.timing.segment_of[wait.stage]]
        elif wait.when is When.SAME:
            needed = execution + 1
        else:
            groups = self.timing.segments[self.turns[turn].segment].groups
            needed = 0 if self.turns[turn].first else execution + 1 - groups
        state = self.stages[wait.stage]
        return (state.firsts if wait.streamed else state.ended) >= needed

    def _turn_of(self, stage: int, execution: int) -> int:
        turns = self.turns_of[self.timing.segment_of[stage]]
        return turns[execution] if execution < len(turns) else len(self.turns)

    def _advance(self, index: int) -> bool:
        state, stage = self.stages[index], self.timing.stages[index]
        turn = self._turn_of(index, state.current)
        if state.taking or state.ready or turn == len(self.turns):
            return False
        if not state.open:
            if (
                self.begun <= turn
                or not all(self._has_happened(wait, turn) for wait in stage.waits)
                or any(self.moved[move] <= state.current for move in stage.reads)
                or not self._has_room(index)
            ):
                return False
            # Opening counts as taking until its launch is paid.
            state.taking = True
            self._at(self.now + self.turns[turn].launch, self._has_opened, index)
            return True
        left = [f for f in stage.flows if self.taken[f] < (state.current + 1) * self._tiles(f)]
        ends = all(self._has_ended(wait, turn) for wait in stage.waits if wait.streamed)
        if left:
            return self._start_tile(index, left, ends, turn)
        if ends and self.now >= state.gate + stage.work:
            own = max(state.since, state.gate + stage.work)
            self._tally(turn).stalled[index] += self.now - own
            state.ready = True
            state.complete = self.now
            if stage.wire:
                self._send(self.links[self._link(index)])
            else:
                self._drain(index)
            return True
        return False

    def _drain(self, index: int) -> None:
        """The last result is on its way out; row groups follow each other meanwhile."""
        state = self.stages[index]
        self._at(self.now + self.timing.stages[index].latency, self._has_ended_execution, index)
        segment = self.timing.segments[self.timing.segment_of[index]]
        if segment.groups > 1:
            self._let_go(state)

    def _let_go(self, state: StageState) -> None:
        state.open = state.ready = False
        state.current += 1

    def _has_room(self, index: int) -> bool:
        """Whether consumers are done with what the stage would write over."""
        groups = self.timing.segments[self.timing.segment_of[index]].groups
        written = self.stages[index].current + 1
        return all(
            self.stages[room.stage].ended >= written - room.back * groups
            for room in self.timing.stages[index].room
        )

    def _has_ended(self, wait: Wait, turn: int) -> bool:
        return self._has_happened(Wait(wait.stage, wait.when), turn)

    def _tiles(self, flow: int) -> int:
        return self.timing.flows[flow].tiles

    def _start_tile(self, index: int, left: list[int], ends: bool, turn: int) -> bool:
        state, flow = self.stages[index], left[0]
        timing = self.timing.flows[flow]
        execution, tile = divmod(self.taken[flow], timing.tiles)
        last = tile == timing.tiles - 1
        if last and len(left) == 1 and not ends:
            return False
        there = execution // timing.passes * timing.tiles + tile
        if timing.queue is None:
            arrival = state.since
        elif there < len(self.arrived[flow]):
            arrival = max(state.since, self.arrived[flow][there])
        else:
            return False
        tally = self._tally(turn)
        tally.starved[index] += arrival - state.since
        tally.stalled[index] += self.now - arrival
        state.taking = True
        self._at(self.now + (timing.take_last if last else timing.take), self._has_taken, flow)
        return True

    def _has_opened(self, index: int) -> None:
        state, stage = self.stages[index], self.timing.stages[index]
        state.taking = False
        state.open = True
        state.opened += 1
        state.gate = state.since = self.now
        state.gates.append(self.now)
        if not stage.flows and not stage.wire:
            self._at(self.now + stage.latency, self._has_first, index)
        self._at(self.now + stage.work, self._look, index)
        self._settle()

    def _look(self, _: int) -> None:
        self._settle()

    def _has_taken(self, flow: int) -> None:
        timing = self.timing.flows[flow]
        state, stage = self.stages[timing.stage], self.timing.stages[timing.stage]
        execution, tile = divmod(self.taken[flow], timing.tiles)
        if flow == stage.flows[0] and tile == 0 and not stage.wire:
            self._at(self.now + stage.latency, self._has_first, timing.stage)
        self.taken[flow] += 1
        if (execution + 1) % timing.passes == 0:
            last = tile == timing.tiles - 1
            self.held[flow] -= timing.last_bytes if last else timing.tile_bytes
        state.taking = False
        state.since = self.now
        while self._advance(timing.stage):
            pass
        if timing.queue is not None:
            while self._serve(timing.queue):
                pass

    def _has_first(self, index: int) -> None:
        self.stages[index].firsts += 1
        self._settle()

    def _has_ended_execution(self, index: int) -> None:
        state = self.stages[index]
        turn = self._turn_of(index, state.ended)
        begin = max(state.gates.popleft(), state.last_end)
        self._tally(turn).active[index] += self.now - begin
        state.last_end = self.now
        state.ended += 1
        if state.current < state.ended:
            self._let_go(state)
        if self.timing.stages[index].wire:
            state.firsts += 1
        self._settle()

    def _send(self, link: LinkState) -> bool:
        if link.sent == len(link.exchanges) or link.sending:
            return False
        index, execution = link.exchanges[link.sent]
        state, stage = self.stages[index], self.timing.stages[index]
        if link.since is None and state.opened > execution:
            link.since = self.now
        if link.since is None or not state.ready or state.current != execution:
            return False
        done = max(link.since + stage.wire, state.complete + stage.wire_last)
        tally = self._tally(self._turn_of(index, execution))
        tally.stalled[index] += done - stage.wire_last - state.complete
        tally.link[0] += stage.wire * stage.share
        link.sending = True
        self._at(done, self._has_sent, index)
        return True

    def _has_sent(self, index: int) -> None:
        link = self.links[self._link(index)]
        link.sent += 1
        link.sending = False
        link.since = None
        self._drain(index)
        self._settle()

    def _serve(self, index: int) -> bool:
        """Go on with a queue's work; True where it passed a turn or began with a tile or a move."""
        state = self.queues[index]
        if state.busy or state.turn == len(self.turns):
            return False
        work = self.turns[state.turn].work[index]
        item = work[state.entry] if state.entry < len(work) else None
        if not state.gated:
            if not self._gate_open(state, item):
                return False
            self._tally(state.turn).order[index] += self.now - state.since
            state.since = self.now
            state.gated = True
        if item is None:
            state.turn += 1
            state.entry = 0
            state.gated = False
        elif isinstance(item, Move):
            self._start_move(index, item)
        else:
            return self._issue(index, item.flow)
        return True

    def _gate_open(self, state: QueueState, item: Read | Move | None) -> bool:
        turn = self.turns[state.turn]
        if state.entry == 0:
            if turn.gate is Gate.BEGIN and self.begun <= state.turn:
                return False
            if turn.gate is Gate.FINISH and self.finished < state.turn:
                return False
        if isinstance(item, Move):
            written = item.source is None or self.moved[item.source] == self.started[item.source]
            return written and (item.wait is None or self._has_happened(item.wait, state.turn))
        if item is None:
            return True
        flow = self.timing.flows[item.flow]
        execution = self.issued[item.flow] // flow.tiles * flow.passes
        of = self._turn_of(flow.stage, execution)
        if self.turns[of].launch and self.stages[flow.stage].opened <= execution:
            return False
        return flow.after is None or self._has_happened(flow.after, of)

    def _occupy(self, index: int, cycles: float) -> float:
        """The queue serves something; the time when it is free again."""
        state = self.queues[index]
        self._tally(state.turn).busy[index] += cycles
        state.busy = True
        self._at(self.now + cycles, self._is_free, index)
        return self.now + cycles

    def _start_move(self, index: int, move: Move) -> None:
        free = self._occupy(index, move.serve)
        self.started[move.index] += 1
        self._at(free + move.latency, self._has_moved, move.index)
        self._next_entry(index)

    def _issue(self, index: int, number: int) -> bool:
        state, flow = self.queues[index], self.timing.flows[number]
        last = self.issued[number] % flow.tiles == flow.tiles - 1
        size = flow.last_bytes if last else flow.tile_bytes
        if self.held[number] + size > flow.depth_bytes:
            return False
        self._tally(state.turn).credit[number] += self.now - state.since
        self.held[number] += size
        self.peak[number] = max(self.peak[number], self.held[number])
        self.issued[number] += 1
        free = self._occupy(index, flow.serve_last if last else flow.serve)
        self._at(free + self.timing.queues[index].latency, self._has_arrived, number)
        if last:
            self._next_entry(index)
        return True

    def _next_entry(self, index: int) -> None:
        self.queues[index].entry += 1
        self.queues[index].gated = False

    def _is_free(self, index: int) -> None:
        self.queues[index].busy = False
        self.queues[index].since = self.now
        while self._serve(index):
            pass

    def _has_arrived(self, flow: int) -> None:
        self.arrived[flow].append(self.now)
        while self._advance(self.timing.flows[flow].stage):
            pass

    def _has_moved(self, move: int) -> None:
        self.moved[move] += 1
        self._settle()
