"""The closed form: a turn takes the longer of its memory traffic and its chain of dependences.

    resident, read ahead        max(chain, bytes / bandwidth)
    launched, or not read ahead cold chain (each byte waits for those before it) + launch
    a token                     max(turns, chains + overhead); without prefetch turns + overhead

It knows nothing of credits, and so of buffers that are too small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hetc.backends.dataflow.simulate.timing import Gate, Read, Timing, Turn, When
from hetc.errors import BackendError


@dataclass(frozen=True)
class Path:
    """The longest path through the stages of a turn, in cycles, and the stages on it."""

    cycles: float
    stages: tuple[str, ...]


@dataclass(frozen=True)
class TurnCost:
    """A turn in isolation: with all tiles there (`chain`), and the busiest queue's time."""

    chain: Path
    memory: float
    cycles: float


def turn_cost(timing: Timing, turn: Turn, *, cold: bool) -> TurnCost:
    """The closed form of one turn; `cold`: its queues start with it."""
    chain = longest_path(timing, turn, cold=False)
    memory = max((_served(timing, turn, queue) for queue in range(len(timing.queues))), default=0.0)
    if cold or turn.launch:
        cycles = max(longest_path(timing, turn, cold=True).cycles, memory) + (turn.fence or 0.0)
    else:
        cycles = max(chain.cycles, memory)
    return TurnCost(chain, memory, cycles)


def token_cycles(timing: Timing) -> float:
    """Cycles of a token by the closed form."""
    costs: dict[int, TurnCost] = {}
    total = chains = 0.0
    opens = timing.turns[0].gate is Gate.BEGIN
    for turn in timing.turns:
        cost = costs.get(id(turn))
        if cost is None:
            cost = costs[id(turn)] = turn_cost(timing, turn, cold=turn.gate is not Gate.NOTHING)
        total += cost.cycles
        chains += cost.cycles if turn.gate is not Gate.NOTHING else cost.chain.cycles
    return total + timing.overhead if opens else max(total, chains + timing.overhead)


def longest_path(timing: Timing, turn: Turn, *, cold: bool) -> Path:
    """The longest path through a turn's stages. `cold`: tiles arrive one after the other."""
    stages = timing.segments[turn.segment].stages
    arrives = _arrivals(timing, turn) if cold else {}
    firsts: dict[int, float] = {}
    ends: dict[int, float] = {}
    through: dict[int, int | None] = {}
    waiting = list(stages)
    while waiting:
        found = [stage for stage in waiting if _known(timing, stage, stages, ends)]
        if not found:
            names = ", ".join(timing.stages[stage].name for stage in waiting)
            raise BackendError("HETC-L104", "stages of one iteration wait for each other", at=names)
        for index in found:
            waiting.remove(index)
            stage = timing.stages[index]
            gate, from_gate = 0.0, None
            done, from_end = 0.0, None
            for wait in stage.waits:
                if wait.when is not When.SAME or wait.stage not in ends:
                    continue
                start = (firsts if wait.streamed else ends)[wait.stage]
                if start > gate:
                    gate, from_gate = start, wait.stage
                if wait.streamed and ends[wait.stage] > done:
                    done, from_end = ends[wait.stage], wait.stage
            gate += turn.launch
            clock = gate
            for flow in (timing.flows[flow] for flow in stage.flows):
                start, end = arrives.get(flow.name, (0.0, 0.0))
                if turn.launch:
                    end += gate - start
                clock = max(clock + flow.take * (flow.tiles - 1), end) + flow.take_last
            if stage.flows:
                first = timing.flows[stage.flows[0]]
                tail = timing.flows[stage.flows[-1]].take_last
                start = gate + (first.take if first.tiles > 1 else first.take_last)
            else:
                start, tail = gate, 0.0
            own = max(clock, gate + stage.work)
            late = done + tail > own
            finish = max(own, done + tail)
            if stage.wire:
                finish = max(gate + stage.wire, finish + stage.wire_last)
            ends[index] = finish + stage.latency
            firsts[index] = ends[index] if stage.wire else min(start + stage.latency, ends[index])
            through[index] = from_end if late else from_gate
    last = max(ends, key=lambda stage: ends[stage])
    return Path(ends[last], _trace_back(timing, last, through))


def _known(timing: Timing, stage: int, stages: tuple[int, ...], ends: dict[int, float]) -> bool:
    waits = timing.stages[stage].waits
    same = [wait.stage for wait in waits if wait.when is When.SAME and wait.stage in stages]
    return all(other in ends for other in same)


def _trace_back(timing: Timing, last: int, through: Mapping[int, int | None]) -> tuple[str, ...]:
    names: list[str] = []
    stage: int | None = last
    while stage is not None:
        names.append(timing.stages[stage].name)
        stage = through[stage]
    return tuple(reversed(names))


def _arrivals(timing: Timing, turn: Turn) -> dict[str, tuple[float, float]]:
    """When a queue that starts with the turn begins each flow, and when its last tile is there."""
    arrives = {}
    for queue, work in zip(timing.queues, turn.work, strict=True):
        free = 0.0
        for item in work:
            start = free
            if isinstance(item, Read):
                flow = timing.flows[item.flow]
                free += flow.serve * (flow.tiles - 1) + flow.serve_last
                arrives[flow.name] = (start, free + queue.latency)
            else:
                free += item.serve
    return arrives


def _served(timing: Timing, turn: Turn, queue: int) -> float:
    total = 0.0
    for item in turn.work[queue]:
        if isinstance(item, Read):
            flow = timing.flows[item.flow]
            total += flow.serve * (flow.tiles - 1) + flow.serve_last
        else:
            total += item.serve
    return total
