"""Plan -> Timing: the work of every queue in every turn of a token."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hetc.backends.dataflow import schema
from hetc.backends.dataflow.simulate.flows import check_owner, flow_of, queue_of, stage_of
from hetc.backends.dataflow.simulate.program import (
    LoopSpan,
    Names,
    Step,
    find,
    repeat_of,
    steps_of,
)
from hetc.backends.dataflow.simulate.speeds import Speeds
from hetc.backends.dataflow.simulate.timing import (
    Flow,
    Gate,
    Move,
    Queue,
    Read,
    Stage,
    Timing,
    Turn,
    Wait,
    When,
)
from hetc.errors import BackendError


@dataclass(frozen=True)
class _Item:
    """An entry of a queue in every turn of a segment; a `carried` one has no work in the first."""

    work: Read | Move
    ahead: int = 0
    carried: bool = False


def unroll(plan: schema.Plan, speeds: Speeds) -> Timing:
    """What the engines run; raises BackendError HETC-L101 to HETC-L108 for what cannot be timed."""
    steps, loops = steps_of(plan)
    unrolled = _Unrolled(plan, speeds, steps)
    turns = unrolled.turns(steps, plan.program.prefetch)
    names = unrolled.names
    segment_of = {s: at for at, segment in enumerate(names.segments) for s in segment.stages}
    return Timing(
        blocks=tuple(block.id for block in plan.blocks),
        segment_of=tuple(segment_of[stage] for stage in range(len(segment_of))),
        segments=tuple(names.segments),
        stages=tuple(unrolled.stages),
        flows=tuple(unrolled.flows),
        queues=tuple(unrolled.queue(tier, turns) for tier in unrolled.tiers),
        main=unrolled.main,
        moves=unrolled.moves,
        turns=turns,
        repeats=tuple(repeat_of(turns, span) for span in unrolled.loops(steps, loops)),
        overhead=plan.program.overhead_cycles,
    )


class _Unrolled:
    def __init__(self, plan: schema.Plan, speeds: Speeds, steps: tuple[Step, ...]) -> None:
        self.plan = plan
        self.speeds = speeds
        self.names = Names(plan, steps)
        self.tiers = list(speeds.memories)
        self.main = self.tiers.index(speeds.main_memory)
        self.flows: list[Flow] = []
        self.flow_index: dict[str, int] = {}
        self.stages: list[Stage] = []
        self.moves = 0
        self.inputs: dict[str, list[int]] = {}
        self.reads: dict[str, list[_Item]] = {}
        self.writes: dict[str, list[_Item]] = {}
        for block in plan.blocks:
            for buffer in block.buffers:
                if buffer.tier != "sram":
                    self._add_buffer(buffer)
        for name, block in self.names.block_of.items():
            self._add_stage(name, block)

    def _add_stage(self, name: str, block: schema.Block) -> None:
        stage = next(stage for stage in block.stages if stage.id == name)
        streams = {stream.id: stream for stream in block.streams}
        flows = []
        for stream_name in stage.streams:
            stream = find(streams, stream_name, "stream", name)
            check_owner(stream, stage)
            if stream.bytes:
                flows.append(len(self.flows))
                self.flow_index[stream.id] = len(self.flows)
                self.flows.append(flow_of(stream, stage, self.tiers, self.names, self.speeds))
        reads = tuple(self.inputs.get(name, ()))
        self.stages.append(stage_of(stage, tuple(flows), reads, self.names))

    def _move(
        self, name: str, size: int, queue: int, wait: Wait | None, source: int | None
    ) -> Move:
        memory = self.speeds.memories[self.tiers[queue]]
        serve = size / memory.sustained
        self.moves += 1
        return Move(self.moves - 1, name, size, serve, memory.latency_cycles, wait, source)

    def _add_buffer(self, buffer: schema.Buffer) -> None:
        """A buffer that passes through memory: written by its producer, read by each consumer."""
        producer = self.names.stage(buffer.producer, buffer.id)
        wait = Wait(producer, When.SAME)
        write = self._move(f"{buffer.id} write", buffer.bytes, self.main, wait, None)
        self.writes.setdefault(buffer.producer, []).append(_Item(write))
        for consumer in buffer.consumers:
            self.names.stage(consumer, buffer.id)
            read = self._move(f"{buffer.id} read", buffer.bytes, self.main, None, write.index)
            stages = {stage.id: stage for stage in self.names.block_of[consumer].stages}
            carried = any(
                on.carried and on.stage == buffer.producer for on in stages[consumer].depends
            )
            self.reads.setdefault(consumer, []).append(_Item(read, carried=carried))
            self.inputs.setdefault(consumer, []).append(read.index)

    def _work(self, place: int, queue: int) -> list[_Item]:
        """What a queue does in a turn of a segment: the entries of the plan, in its order.

        Where buffers pass through memory, a stage's inputs stand before its first stream and its
        output behind its last, by the order of the block's stages.
        """
        segment = self.names.segments[place]
        block = self.plan.blocks[segment.block]
        names = [stage.id for stage in block.stages if self._in(stage.id, segment.stages)]
        streams = {stream.id: stream for stream in block.streams}
        main = queue == self.main
        work: list[_Item] = []
        reached = 0

        def reach(count: int) -> None:
            nonlocal reached
            for stage in range(reached, count):
                if main and stage > 0:
                    work.extend(self.writes.get(names[stage - 1], ()))
                if main:
                    work.extend(self.reads.get(names[stage], ()))
            reached = max(reached, count)

        for issue in block.issue:
            owner = find(streams, issue.stream, "stream", f"issue of {block.id}").stage
            flow = self.flow_index.get(issue.stream)
            if owner in names and flow is not None and self.flows[flow].queue == queue:
                reach(names.index(owner) + 1)
                work.append(_Item(Read(flow), issue.ahead))
        reach(len(names))
        if main:
            work.extend(self.writes.get(names[-1], ()))
        self._check_reads(segment.stages, queue, work)
        return work

    def _in(self, name: str, stages: tuple[int, ...]) -> bool:
        return self.names.stage_of.get(name) in stages

    def _check_reads(self, stages: tuple[int, ...], queue: int, work: Sequence[_Item]) -> None:
        found = [item.work.flow for item in work if isinstance(item.work, Read)]
        for stage in stages:
            for flow in self.stages[stage].flows:
                times = found.count(flow)
                if self.flows[flow].queue == queue and times != 1:
                    raise BackendError(
                        "HETC-L106",
                        "a stream must be issued once an iteration",
                        at=self.flows[flow].name,
                        found=f"{times} times",
                    )

    def _appends(self, place: int) -> list[list[Move]]:
        """By queue, the rows of the state that a turn of the segment makes."""
        segment = self.names.segments[place]
        block = self.plan.blocks[segment.block]
        tier_of = {name: stream.tier for stream in block.streams for name in stream.tensors}
        found: list[list[Move]] = [[] for _ in self.tiers]
        for append in block.appends:
            stage = self.names.stage(append.stage, f"appends of {block.id}")
            tier = tier_of.get(append.tensor, self.speeds.main_memory)
            if stage in segment.stages and tier != "sram":
                queue = queue_of(self.tiers, tier, append.tensor)
                wait = Wait(stage, When.LATEST)
                size = append.bytes // segment.groups
                found[queue].append(self._move(append.tensor, size, queue, wait, None))
        return found

    def turns(self, steps: tuple[Step, ...], prefetch: bool) -> tuple[Turn, ...]:
        """A token. `prefetch`: its queues do not wait for its start."""
        queues, segments = range(len(self.tiers)), range(len(self.names.segments))
        work = [[self._work(place, queue) for queue in queues] for place in segments]
        appends = [self._appends(place) for place in segments]
        at_once = self._last_rows_at_once(steps)
        passes = [
            (step, self._place(step), group)
            for step in steps
            for group in range(self._groups(step))
        ]
        same: dict[Turn, Turn] = {}
        turns: list[Turn] = []
        for position, (step, place, group) in enumerate(passes):
            items = [self._of_turn(work[place][queue], step, group) for queue in queues]
            for queue in queues:
                if position > 0 or not at_once:
                    items[queue] += appends[passes[position - 1][1]][queue]
                if position == len(passes) - 1 and at_once:
                    items[queue] += [_at_once(move) for move in appends[place][queue]]
            turn = Turn(
                segment=place,
                group=group,
                first=step.iteration == 0,
                opens=position == 0,
                gate=_gate(step, waits=position == 0 and not prefetch, begins=group == 0),
                fence=step.fence,
                launch=step.launch,
                work=tuple(tuple(found) for found in items),
            )
            turns.append(same.setdefault(turn, turn))
        return tuple(turns)

    def _place(self, step: Step) -> int:
        return self.names.segment_of[step.block, step.section]

    def _groups(self, step: Step) -> int:
        return self.names.segments[self._place(step)].groups

    def loops(self, steps: Sequence[Step], spans: Sequence[LoopSpan]) -> Iterator[LoopSpan]:
        """The loops of a token, counted in turns."""
        for span in spans:
            before = sum(self._groups(step) for step in steps[: span.start])
            body = steps[span.start : span.start + span.length]
            yield LoopSpan(before, sum(self._groups(step) for step in body), span.count)

    def _of_turn(self, work: Sequence[_Item], step: Step, group: int) -> list[Read | Move]:
        """The work of one turn: nothing is read beyond the last iteration of the loop, and what
        serves all row groups is read for the first."""
        found: list[Read | Move] = []
        groups = self._groups(step)
        if step.iteration == group == 0 and step.reads_ahead:
            for item in work:
                parts = 1 if self._serves_all(item) else groups
                found += [item.work] * min(item.ahead, step.count) * parts
        for item in work:
            ahead = item.ahead if step.reads_ahead else 0
            if isinstance(item.work, Move) and item.carried and step.iteration == 0:
                found.append(dataclasses.replace(item.work, bytes=0, serve=0.0, latency=0.0))
            elif step.iteration + ahead < step.count and not (group and self._serves_all(item)):
                found.append(item.work)
        return found

    def _serves_all(self, item: _Item) -> bool:
        return isinstance(item.work, Read) and self.flows[item.work.flow].passes > 1

    def _last_rows_at_once(self, steps: tuple[Step, ...]) -> bool:
        """Whether the first turn may read the rows that the last turn made, a token before.

        If not, they are written at the end of that turn, and the next token is read ahead.
        """
        first, last = steps[0], steps[-1]
        block = next(block for block in self.plan.blocks if block.id == last.block)
        ahead = max((issue.ahead for issue in block.issue), default=0)
        return first.block == last.block and last.iteration <= ahead

    def queue(self, tier: str, turns: Sequence[Turn]) -> Queue:
        """A tier's queue, with the bytes of a token."""
        queue = self.tiers.index(tier)
        items = [item for turn in turns for item in turn.work[queue]]
        streams = sum(self.flows[item.flow].bytes for item in items if isinstance(item, Read))
        moves = [item for item in items if isinstance(item, Move)]
        return Queue(
            tier=tier,
            latency=self.speeds.memories[tier].latency_cycles,
            bytes_read=streams + sum(move.bytes for move in moves if move.source is not None),
            bytes_written=sum(move.bytes for move in moves if move.source is None),
        )


def _at_once(move: Move) -> Move:
    """Rows that are written in the turn that makes them."""
    assert move.wait is not None
    return dataclasses.replace(move, wait=dataclasses.replace(move.wait, when=When.SAME))


def _gate(step: Step, *, waits: bool, begins: bool) -> Gate:
    """`begins`: it is the first turn of the step."""
    if waits or step.fence is not None:
        return Gate.BEGIN
    return Gate.FINISH if step.enters and begins else Gate.NOTHING
