"""When each stage, memory and link of a socket is at work: a token between two others.

A stage's time from its gate to its end falls into `busy`, `starved` and `stalled`, as `StageUse`
counts them; outside it is idle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from hetc.backends.dataflow.schema import Plan
from hetc.backends.dataflow.simulate.engine import run_maxplus
from hetc.backends.dataflow.simulate.maxplus import Run
from hetc.backends.dataflow.simulate.speeds import Speeds
from hetc.backends.dataflow.simulate.stage import StageProcess
from hetc.backends.dataflow.simulate.timing import Read, Repeat
from hetc.backends.dataflow.simulate.unroll import unroll

State = Literal["busy", "starved", "stalled"]
LINK = "peer link"

# Two tokens to get into the steady state, the one that is told, and one that is read ahead for.
_TOKENS, _TOLD = 4, 2


@dataclass(frozen=True)
class Span:
    """A stretch of time, and what it went for: a stream, an exchange or a stage."""

    begin: float
    end: float
    state: State
    what: str


@dataclass(frozen=True)
class Lane:
    """A stage, a memory tier's queue or the peer link, and its spans in order of time."""

    name: str
    kind: Literal["stage", "memory", "link"]
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Iteration:
    """One iteration in the middle of the loop that takes most of the token."""

    block: str
    number: int
    count: int
    begin: float
    end: float


@dataclass(frozen=True)
class Timeline:
    """A token of `cycles` from 0, where the one before it ended; spans may reach beyond it."""

    cycles: float
    clock_hz: float
    lanes: tuple[Lane, ...]
    iteration: Iteration | None


def timeline(plan: Plan, speeds: Speeds) -> Timeline:
    """Simulate every tile of a few tokens and tell one of them; raises as `simulate` does."""
    timing = unroll(plan, speeds)
    outcome, run = run_maxplus(timing, _TOKENS, skip=False)
    start, end = outcome.ends[_TOLD - 1], outcome.ends[_TOLD]
    lanes: list[tuple[str, Literal["stage", "memory", "link"], Iterable[Span]]] = [
        *((queue.tier, "memory", _queue(run, n)) for n, queue in enumerate(timing.queues)),
        *((stage.name, "stage", _stage(run, stage)) for stage in run.stages),
        (LINK, "link", _link(run)),
    ]
    return Timeline(
        cycles=end - start,
        clock_hz=speeds.clock_hz,
        lanes=tuple(
            Lane(name, kind, tuple(_within(_merged(spans), start, end)))
            for name, kind, spans in lanes
        ),
        iteration=_iteration(run, start),
    )


def _merged(spans: Iterable[Span]) -> Iterator[Span]:
    """Spans that follow each other without a gap as one; empty ones are left out."""
    held: Span | None = None
    for span in spans:
        if span.end - span.begin <= 1e-9 * max(1.0, span.end):
            continue
        same = held is not None and (held.state, held.what) == (span.state, span.what)
        if held is not None and same and span.begin - held.end <= 1e-9 * span.end:
            held = Span(held.begin, span.end, span.state, span.what)
            continue
        if held is not None:
            yield held
        held = span
    if held is not None:
        yield held


def _within(spans: Iterable[Span], start: float, end: float) -> Iterator[Span]:
    for span in spans:
        if span.begin < end and span.end > start:
            yield Span(span.begin - start, span.end - start, span.state, span.what)


def _stage(run: Run, process: StageProcess) -> Iterator[Span]:
    """What a stage does in each execution: the tiles that it takes, then the rest of its work."""
    stage, name = process.stage, process.name
    for execution, gate in enumerate(process.gates):
        clock = gate
        for index in stage.flows:
            flow = run.timing.flows[index]
            for tile in range(execution * flow.tiles, (execution + 1) * flow.tiles):
                last = tile % flow.tiles == flow.tiles - 1
                taken = run.taken[index][tile]
                begin = taken - (flow.take_last if last else flow.take)
                there = min(begin, max(clock, run.arrived[index][tile]))
                yield Span(clock, there, "starved", flow.name)
                yield Span(there, begin, "stalled", name)
                yield Span(begin, taken, "busy", flow.name)
                clock = taken
        own = max(clock, gate + stage.work)
        ready, end = process.ready[execution], process.ends[execution]
        if stage.wire:
            ready = run.link.times[process.exchanges[execution]] - stage.wire_last
        yield Span(clock, own, "busy", name)
        yield Span(own, ready, "stalled", name)
        yield Span(ready, end, "busy", name)


def _queue(run: Run, index: int) -> Iterator[Span]:
    """What a memory serves, tile by tile, in the order of the program."""
    timing = run.timing
    latency = timing.queues[index].latency
    next_tile, next_move = [0] * len(timing.flows), [0] * timing.moves
    for turn in timing.turns * _TOKENS:
        for item in turn.work[index]:
            if isinstance(item, Read):
                flow = timing.flows[item.flow]
                for number in range(flow.tiles):
                    end = run.arrived[item.flow][next_tile[item.flow]] - latency
                    serve = flow.serve if number < flow.tiles - 1 else flow.serve_last
                    yield Span(end - serve, end, "busy", flow.name)
                    next_tile[item.flow] += 1
            else:
                end = run.moved[item.index][next_move[item.index]] - item.latency
                yield Span(end - item.serve, end, "busy", item.name)
                next_move[item.index] += 1


def _link(run: Run) -> Iterator[Span]:
    """Each exchange, from when the link is its own; what its wire does not take is told first."""
    free = 0.0
    for (stage, execution), end in zip(run.link.order, run.link.times, strict=False):
        process = run.stages[stage]
        sent = end - process.stage.wire
        yield Span(max(process.gates[execution], free), sent, "stalled", process.name)
        yield Span(sent, end, "busy", process.name)
        free = end


def _iteration(run: Run, start: float) -> Iteration | None:
    finishes, turns = run.finishes.times, run.timing.turns

    def end(repeat: Repeat, iteration: int) -> float:
        """When an iteration of the told token has ended; -1 stands for what is before it."""
        turn = _TOLD * len(turns) + repeat.start + repeat.length * (iteration + 1) - 1
        return finishes[turn] - start

    loops = [repeat for repeat in run.timing.repeats if repeat.high > 2]
    if not loops:
        return None
    repeat = max(loops, key=lambda loop: end(loop, loop.high - 1) - end(loop, -1))
    number = repeat.high // 2
    segment = run.timing.segments[turns[repeat.start].segment]
    return Iteration(
        block=run.timing.blocks[segment.block],
        number=number,
        count=repeat.high,
        begin=end(repeat, number - 1),
        end=end(repeat, number),
    )
