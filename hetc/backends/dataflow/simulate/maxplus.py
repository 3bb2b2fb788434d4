"""The longest path through a plan's events: the default engine.

Every arbiter serves a static order, so the time of an event is a maximum of sums of earlier ones,
in the algebra (max, +) (Baccelli, Cohen, Olsder, Quadrat: Synchronization and Linearity, 1992). No
order of events has to be found: each queue, stage and link is a `Process` that appends the times
of its own events to lists, and asks for an entry of another's list when it needs one. A process
that is asked, directly or not, for what it waits for itself stands still: HETC-L104.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from hetc.backends.dataflow.simulate.tally import Tally
from hetc.backends.dataflow.simulate.timing import Flow, Gate, Move, Stage, Timing, Turn, Wait, When
from hetc.errors import BackendError


class Times(list[float]):
    """When the events of one kind happen, in order; `maker` appends them."""

    __slots__ = ("maker",)

    def __init__(self, maker: Process) -> None:
        super().__init__()
        self.maker = maker


Want = tuple[Times, int]


class Process(ABC):
    """A queue, a stage, the link, or the program: something that does one thing after another."""

    name: str

    @abstractmethod
    def step(self) -> Want | None:
        """Do the next thing; or, where it cannot, the entry that it waits for."""


def know(times: Times, index: int) -> None:
    """Run what is needed until `times[index]` exists."""
    stack: list[Want] = [(times, index)]
    while stack:
        times, index = stack[-1]
        want = None
        while len(times) <= index and want is None:
            want = times.maker.step()
        if want is None or len(times) > index:
            stack.pop()
            continue
        chain = [asked.maker for asked, _ in stack]
        if want[0].maker in chain:
            circle = [*chain[chain.index(want[0].maker) :], want[0].maker]
            raise BackendError(
                "HETC-L104",
                "the plan stands still: each waits for the next",
                at=circle[0].name,
                found=" -> ".join(process.name for process in circle),
                do="issue streams in the order in which stages take them, or give more credits",
            )
        stack.append(want)


class Scheduled:
    """A turn in the run: the `execution` of its segment, and all segments' executions before it."""

    __slots__ = ("before", "execution", "turn")

    def __init__(self, turn: Turn, before: tuple[int, ...]) -> None:
        self.turn = turn
        self.before = before
        self.execution = before[turn.segment]


class Run:
    """All processes of a run. Turns, executions and tiles are numbered from its start."""

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self.tally = Tally.zero(timing)
        self.scheduled: list[Scheduled] = []
        self.turns_of: list[list[int]] = [[] for _ in timing.segments]
        self.position = 0
        self.link = LinkProcess(self)
        self.queues = [QueueProcess(self, index) for index in range(len(timing.queues))]
        self.stages = [StageProcess(self, index) for index in range(len(timing.stages))]
        self.arrived = [
            Times(self.queues[flow.queue] if flow.queue is not None else self.stages[flow.stage])
            for flow in timing.flows
        ]
        self.taken = [Times(self.stages[flow.stage]) for flow in timing.flows]
        self.moved = [Times(self.queues[0]) for _ in range(timing.moves)]
        self.begins = BeginProcess(self)
        self.finishes = FinishProcess(self)

    def turn(self, number: int) -> Scheduled:
        """The turn of this number; the program goes on, token after token, as far as asked."""
        while len(self.scheduled) <= number:
            turn = self.timing.turns[self.position]
            self.position = (self.position + 1) % len(self.timing.turns)
            found = Scheduled(turn, tuple(len(turns) for turns in self.turns_of))
            self.turns_of[turn.segment].append(len(self.scheduled))
            self.scheduled.append(found)
            for stage in self.timing.segments[turn.segment].stages:
                if self.timing.stages[stage].wire:
                    self.stages[stage].exchanges.append(len(self.link.order))
                    self.link.order.append((stage, found.execution))
        return self.scheduled[number]

    def turn_of(self, stage: int, execution: int) -> int:
        """The number of the turn in which a stage is executed for the n-th time."""
        turns = self.turns_of[self.timing.segment_of[stage]]
        while len(turns) <= execution:
            self.turn(len(self.scheduled))
        return turns[execution]

    def execution(self, wait: Wait, scheduled: Scheduled) -> int:
        """Which execution a turn waits for; negative for none."""
        if wait.when is When.LATEST:
            return scheduled.before[self.timing.segment_of[wait.stage]] - 1
        if wait.when is When.SAME:
            return scheduled.execution
        return -1 if scheduled.turn.first else scheduled.execution - 1


class BeginProcess(Process):
    """When turns begin: tokens after the overhead, and a fence after all before it."""

    name = "the program"

    def __init__(self, run: Run) -> None:
        self.run = run
        self.times = Times(self)

    def step(self) -> Want | None:
        number = len(self.times)
        turn = self.run.turn(number).turn
        begin = self.times[-1] if self.times else 0.0
        if number and (turn.opens or turn.fence is not None):
            finishes = self.run.finishes.times
            if len(finishes) < number:
                return finishes, number - 1
            begin = finishes[number - 1]
            if turn.opens:
                begin += self.run.timing.overhead
        self.times.append(begin + (turn.fence or 0.0))
        return None


class FinishProcess(Process):
    """When all stages of a turn, and of all before it, have ended."""

    name = "the end of a turn"

    def __init__(self, run: Run) -> None:
        self.run = run
        self.times = Times(self)

    def step(self) -> Want | None:
        scheduled = self.run.turn(len(self.times))
        before = self.times[-1] if self.times else 0.0
        finish = before
        segment = self.run.timing.segments[scheduled.turn.segment]
        for stage in segment.stages:
            ends = self.run.stages[stage].ends
            if len(ends) <= scheduled.execution:
                return ends, scheduled.execution
            finish = max(finish, ends[scheduled.execution])
        self.run.tally.blocks[segment.block] += finish - before
        self.times.append(finish)
        return None


class LinkProcess(Process):
    """The link to the peers: one exchange at a time, in the order of the program."""

    name = "the peer link"

    def __init__(self, run: Run) -> None:
        self.run = run
        self.order: list[tuple[int, int]] = []
        self.times = Times(self)

    def step(self) -> Want | None:
        index, execution = self.order[len(self.times)]
        process = self.run.stages[index]
        if len(process.ready) <= execution:
            return process.ready, execution
        stage = process.stage
        start = max(process.gates[execution], self.times[-1] if self.times else 0.0)
        self.run.tally.link[0] += stage.wire
        self.times.append(max(start + stage.wire, process.ready[execution] + stage.wire_last))
        return None


class QueueProcess(Process):
    """A memory tier's queue. `passed` is when it is through with a turn."""

    def __init__(self, run: Run, index: int) -> None:
        self.run = run
        self.index = index
        self.queue = run.timing.queues[index]
        self.name = f"the {self.queue.tier} queue"
        self.passed = Times(self)
        self.entry = 0
        self.free = 0.0

    def step(self) -> Want | None:
        scheduled = self.run.turn(len(self.passed))
        work = scheduled.turn.work[self.index]
        want = self._gate(scheduled.turn) if self.entry == 0 else None
        if want is None and self.entry == len(work):
            self.passed.append(self.free)
            self.entry = 0
        elif want is None:
            item = work[self.entry]
            want = self._move(item, scheduled) if isinstance(item, Move) else self._read(item.flow)
            self.entry += want is None
        return want

    def _gate(self, turn: Turn) -> Want | None:
        number = len(self.passed)
        if turn.gate is Gate.BEGIN:
            return self._wait(self.run.begins.times, number)
        if turn.gate is Gate.FINISH:
            return self._wait(self.run.finishes.times, number - 1)
        return None

    def _wait(self, times: Times, index: int) -> Want | None:
        if index < 0:
            return None
        if len(times) <= index:
            return times, index
        if times[index] > self.free:
            self.run.tally.order[self.index] += times[index] - self.free
            self.free = times[index]
        return None

    def _move(self, move: Move, scheduled: Scheduled) -> Want | None:
        want = None
        if move.wait is not None:
            ends = self.run.stages[move.wait.stage].ends
            want = self._wait(ends, self.run.execution(move.wait, scheduled))
        if move.source is not None:
            source = self.run.moved[move.source]
            want = self._wait(source, len(source) - 1)
        if want is None:
            self.run.tally.busy[self.index] += move.serve
            self.free += move.serve
            self.run.moved[move.index].append(self.free + move.latency)
        return want

    def _read(self, index: int) -> Want | None:
        """Issue all tiles of the flow's next iteration, as far as its credits go."""
        flow = self.run.timing.flows[index]
        arrived, taken = self.run.arrived[index], self.run.taken[index]
        execution, done = divmod(len(arrived), flow.tiles)
        if done == 0:
            want = self._gate_flow(flow, execution)
            if want is not None:
                return want
        free, latency, serve = self.free, self.queue.latency, flow.serve
        waited, issued, want = 0.0, len(arrived), None
        for tile in range(done, flow.tiles):
            room = len(arrived) - flow.fits[tile]
            if room >= 0:
                if room >= len(taken):
                    want = taken, room
                    break
                if taken[room] > free:
                    waited += taken[room] - free
                    free = taken[room]
            free += serve if tile < flow.tiles - 1 else flow.serve_last
            arrived.append(free + latency)
        self.run.tally.credit[index] += waited
        self.run.tally.busy[self.index] += serve * (len(arrived) - issued)
        if want is None:
            self.run.tally.busy[self.index] += flow.serve_last - serve
        self.free = free
        return want

    def _gate_flow(self, flow: Flow, execution: int) -> Want | None:
        scheduled = self.run.turn(self.run.turn_of(flow.stage, execution))
        if scheduled.turn.launch:
            want = self._wait(self.run.stages[flow.stage].gates, execution)
            if want is not None:
                return want
        if flow.after is None:
            return None
        ends = self.run.stages[flow.after.stage].ends
        return self._wait(ends, self.run.execution(flow.after, scheduled))


class StageProcess(Process):
    """A stage, one execution after another: gate, tiles, first result, ready, exchange, end."""

    def __init__(self, run: Run, index: int) -> None:
        self.run = run
        self.index = index
        self.stage: Stage = run.timing.stages[index]
        self.name = self.stage.name
        self.gates = Times(self)
        self.firsts = Times(self)
        self.ready = Times(self)
        self.ends = Times(self)
        self.exchanges: list[int] = []
        self.streamed = tuple(wait for wait in self.stage.waits if wait.streamed)
        self.clock = 0.0

    def step(self) -> Want | None:
        execution = len(self.ends)
        scheduled = self.run.turn(self.run.turn_of(self.index, execution))
        if len(self.gates) == execution:
            want = self._open(scheduled, execution)
        elif len(self.ready) == execution:
            want = self._take(scheduled, execution) or self._complete(scheduled, execution)
        else:
            want = self._close(execution)
        return want

    def _open(self, scheduled: Scheduled, execution: int) -> Want | None:
        wants: list[Want] = [(self.run.begins.times, self.run.turn_of(self.index, execution))]
        for wait in self.stage.waits:
            other = self.run.stages[wait.stage]
            times = other.firsts if wait.streamed else other.ends
            wants.append((times, self.run.execution(wait, scheduled)))
        wants += [(self.run.moved[move], execution) for move in self.stage.reads]
        gate = self.ends[-1] if self.ends else 0.0
        for times, index in wants:
            if len(times) <= index:
                return times, index
            if index >= 0:
                gate = max(gate, times[index])
        gate += scheduled.turn.launch
        self.clock = gate
        self.gates.append(gate)
        if not self.stage.flows and not self.stage.wire:
            self.firsts.append(gate + self.stage.latency)
        return None

    def _take(self, scheduled: Scheduled, execution: int) -> Want | None:
        """Take all tiles that have arrived; the last waits for the end of streamed producers."""
        starved, stalled = 0.0, 0.0
        clock = self.clock
        want: Want | None = None
        for index in self.stage.flows:
            flow = self.run.timing.flows[index]
            arrived, taken = self.run.arrived[index], self.run.taken[index]
            end = (execution + 1) * flow.tiles
            if len(taken) == end:
                continue
            take = flow.take
            for arrival in arrived[len(taken) : end - 1]:
                if arrival > clock:
                    starved += arrival - clock
                    clock = arrival
                clock += take
                taken.append(clock)
            if len(taken) < end - 1:
                want = arrived, len(taken)
                break
            if flow.queue is None:
                arrived.append(clock)
            if len(arrived) < end:
                want = arrived, end - 1
                break
            producers = 0.0
            if index == self.stage.flows[-1]:
                want, producers = self._producers(scheduled)
                if want is not None:
                    break
            start = max(clock, arrived[end - 1])
            starved += start - clock
            stalled += max(0.0, producers - start)
            clock = max(start, producers) + flow.take_last
            taken.append(clock)
        self.clock = clock
        self._first_result(execution)
        self.run.tally.starved[self.index] += starved
        self.run.tally.stalled[self.index] += stalled
        return want

    def _first_result(self, execution: int) -> None:
        if len(self.firsts) == execution and not self.stage.wire:
            first = execution * self.run.timing.flows[self.stage.flows[0]].tiles
            taken = self.run.taken[self.stage.flows[0]]
            if len(taken) > first:
                self.firsts.append(taken[first] + self.stage.latency)

    def _producers(self, scheduled: Scheduled) -> tuple[Want | None, float]:
        """The latest end of the producers whose results are taken as they come."""
        latest = 0.0
        for wait in self.streamed:
            ends = self.run.stages[wait.stage].ends
            execution = self.run.execution(wait, scheduled)
            if len(ends) <= execution:
                return (ends, execution), latest
            if execution >= 0:
                latest = max(latest, ends[execution])
        return None, latest

    def _complete(self, scheduled: Scheduled, execution: int) -> Want | None:
        want, producers = self._producers(scheduled)
        if want is not None:
            return want
        own = max(self.clock, self.gates[execution] + self.stage.work)
        self.run.tally.stalled[self.index] += max(0.0, producers - own)
        self.ready.append(max(own, producers))
        return None

    def _close(self, execution: int) -> Want | None:
        done = self.ready[execution]
        if self.stage.wire:
            exchange = self.exchanges[execution]
            sent = self.run.link.times
            if len(sent) <= exchange:
                return sent, exchange
            self.run.tally.stalled[self.index] += sent[exchange] - self.stage.wire_last - done
            done = sent[exchange]
        end = done + self.stage.latency
        if self.stage.wire:
            self.firsts.append(end)
        self.ends.append(end)
        self.run.tally.active[self.index] += end - self.gates[execution]
        return None
