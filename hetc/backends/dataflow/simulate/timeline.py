"""When each stage, memory and link of a socket is at work: a token between two others.

A stage's time from its gate to its end falls into `busy`, `starved` and `stalled`, as `StageUse`
counts them; outside it is idle. Times are kept as arrays: a token of a large model has a million of
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hetc.backends.dataflow.schema import Plan
from hetc.backends.dataflow.simulate.engine import run_maxplus
from hetc.backends.dataflow.simulate.maxplus import Run
from hetc.backends.dataflow.simulate.speeds import Speeds
from hetc.backends.dataflow.simulate.stage import StageProcess
from hetc.backends.dataflow.simulate.timing import Move, Repeat
from hetc.backends.dataflow.simulate.unroll import unroll

State = Literal["busy", "starved", "stalled"]
STATES: tuple[State, ...] = ("busy", "starved", "stalled")
LINK = "peer link"
# Rows of begin and end, in cycles.
Spans = NDArray[np.float64]

# Two tokens to get into the steady state, the one that is told, and one that is read ahead for.
_TOKENS, _TOLD = 4, 2


@dataclass(frozen=True)
class Work:
    """All of a stream's tiles of one iteration, from first to last, or one exchange."""

    what: str
    begin: float
    end: float


@dataclass(frozen=True, eq=False)
class Lane:
    """A stage, a memory tier's queue or the peer link: its spans by state, each in order of time,
    and of the latter two what they work for."""

    name: str
    kind: Literal["stage", "memory", "link"]
    spans: Mapping[State, Spans]
    work: tuple[Work, ...] = ()

    def within(self, begin: float, end: float) -> bool:
        """Whether it does or waits for anything in that time."""
        return any(
            bool(np.any((spans[:, 0] < end) & (spans[:, 1] > begin)))
            for spans in self.spans.values()
        )


@dataclass(frozen=True)
class Iteration:
    """One iteration in the middle of the loop that takes most of the token."""

    block: str
    number: int
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
    teller = _Teller(run, outcome.ends[_TOLD - 1], outcome.ends[_TOLD])
    return Timeline(
        cycles=teller.end - teller.start,
        clock_hz=speeds.clock_hz,
        lanes=(
            *(teller.queue(index) for index in range(len(timing.queues))),
            *(teller.stage(process) for process in run.stages),
            teller.link(),
        ),
        iteration=teller.iteration(),
    )


class _Teller:
    """Spans of a run that fall into the token from `start` to `end`."""

    def __init__(self, run: Run, start: float, end: float) -> None:
        self.run, self.start, self.end = run, start, end

    def stage(self, process: StageProcess) -> Lane:
        """What a stage does in each execution: the tiles that it takes, then its other work."""
        stage, run, count = process.stage, self.run, len(process.ends)
        gates, ends = np.array(process.gates[:count]), np.array(process.ends)
        parts: list[tuple[State, Spans]] = []

        def add(state: State, begin: NDArray[np.float64], end: NDArray[np.float64]) -> None:
            parts.append((state, np.stack([begin, end], axis=-1).reshape(-1, 2)))

        clock = gates
        for index in stage.flows:
            flow = run.timing.flows[index]
            shape = (count, flow.tiles)
            taken = np.array(run.passed[index][: count * flow.tiles]).reshape(shape)
            fetched = -(-count // flow.passes)
            arrived = np.array(run.arrived[index][: fetched * flow.tiles])
            arrived = arrived.reshape(fetched, flow.tiles).repeat(flow.passes, axis=0)[:count]
            begin = taken - np.array([flow.take] * (flow.tiles - 1) + [flow.take_last])
            before = np.column_stack([clock, taken[:, :-1]])
            there = np.minimum(begin, np.maximum(before, arrived))
            add("starved", before, there)
            add("stalled", there, begin)
            add("busy", begin, taken)
            clock = taken[:, -1]
        own, ready = np.maximum(clock, gates + stage.work), np.array(process.ready[:count])
        if stage.wire:
            times = run.link_of(process.index).times
            sent = [times[exchange] for exchange in process.exchanges[:count]]
            ready = np.array(sent) - stage.wire_last
        add("busy", clock, own)
        add("stalled", own, ready)
        add("busy", ready, ends)
        return Lane(process.name, "stage", self._spans(parts))

    def queue(self, index: int) -> Lane:
        """What a memory serves: streams tile by tile, and moves."""
        timing = self.run.timing
        queue = timing.queues[index]
        parts: list[tuple[State, Spans]] = []
        work: list[Work] = []
        for number, flow in enumerate(timing.flows):
            if flow.queue == index:
                serve = np.array([flow.serve] * (flow.tiles - 1) + [flow.serve_last])
                arrived = np.array(self.run.arrived[number]).reshape(-1, flow.tiles)
                end = arrived - queue.latency
                spans = np.stack([end - serve, end], axis=-1)
                parts.append(("busy", spans.reshape(-1, 2)))
                work += [
                    Work(flow.name, float(first), float(last))
                    for first, last in zip(spans[:, 0, 0], spans[:, -1, 1], strict=True)
                ]
        moves = [work for turn in timing.turns for work in turn.work[index]]
        for move in {item.index: item for item in moves if isinstance(item, Move)}.values():
            end = np.array(self.run.moved[move.index]) - move.latency
            parts.append(("busy", np.stack([end - move.serve, end], axis=-1)))
        return Lane(queue.tier, "memory", self._spans(parts), self._work(work))

    def link(self) -> Lane:
        """Each exchange, from when the link is its own: what its wire does not take comes first."""
        run = self.run
        waits: list[tuple[float, float]] = []
        sends: list[tuple[float, float]] = []
        work: list[Work] = []
        for link in (run.link, *run.shares.values()):
            free = 0.0
            for (stage, execution), end in zip(link.order, link.times, strict=False):
                process = run.stages[stage]
                begin, sent = max(process.gates[execution], free), end - process.stage.wire
                waits.append((begin, sent))
                sends.append((sent, end))
                work.append(Work(process.name, begin, end))
                free = end
        parts: list[tuple[State, Spans]] = [
            ("stalled", np.array(waits, dtype=np.float64).reshape(-1, 2)),
            ("busy", np.array(sends, dtype=np.float64).reshape(-1, 2)),
        ]
        return Lane(LINK, "link", self._spans(parts), self._work(work))

    def _spans(self, parts: list[tuple[State, Spans]]) -> dict[State, Spans]:
        """All spans of each state that have a length and a part in the token, in order of time."""
        found: dict[State, Spans] = {}
        for state in STATES:
            every = np.concatenate(
                [np.empty((0, 2)), *(spans for own, spans in parts if own == state)]
            )
            long = every[:, 1] - every[:, 0] > 1e-9 * np.maximum(1.0, every[:, 1])
            kept = every[long & (every[:, 0] < self.end) & (every[:, 1] > self.start)]
            found[state] = kept[np.argsort(kept[:, 0], kind="stable")] - self.start
        return found

    def _work(self, work: list[Work]) -> tuple[Work, ...]:
        return tuple(
            Work(item.what, item.begin - self.start, item.end - self.start)
            for item in sorted(work, key=lambda item: item.begin)
            if item.begin < self.end and item.end > self.start
        )

    def iteration(self) -> Iteration | None:
        """Of the loop that takes most of the token, one in the middle."""
        run = self.run
        finishes, turns = run.finishes.times, run.timing.turns

        def end(repeat: Repeat, iteration: int) -> float:
            """When an iteration of the token has ended; -1 stands for what is before them."""
            turn = _TOLD * len(turns) + repeat.start + repeat.length * (iteration + 1) - 1
            return finishes[turn] - self.start

        loops = [repeat for repeat in run.timing.repeats if repeat.high > 2]
        if not loops:
            return None
        repeat = max(loops, key=lambda loop: end(loop, loop.high - 1) - end(loop, -1))
        number = repeat.high // 2
        segment = run.timing.segments[turns[repeat.start].segment]
        block = run.timing.blocks[segment.block]
        return Iteration(block, number, end(repeat, number - 1), end(repeat, number))
