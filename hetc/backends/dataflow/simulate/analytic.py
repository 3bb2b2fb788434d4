"""The closed form: a turn takes the longer of its memory traffic and its chain of dependences.

    resident, read ahead        max(chain, bytes / bandwidth)
    launched, or not read ahead cold chain (each byte waits for those before it) + launch
    a token                     max(turns, chains + overhead); without prefetch turns + overhead

It knows nothing of credits, and so of buffers that are too small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hetc.backends.dataflow.simulate.tally import Outcome, Tally
from hetc.backends.dataflow.simulate.timing import Gate, Read, Timing, Turn, When
from hetc.errors import BackendError


@dataclass(frozen=True)
class Path:
    """The longest path through the stages of a turn, in cycles, and the stages on it."""

    cycles: float
    stages: tuple[str, ...]


@dataclass(frozen=True)
class TurnCost:
    """A turn in isolation: with all tiles there (`chain`), the busiest queue's time, and both."""

    chain: Path
    memory: float
    cycles: float


def turn_cost(timing: Timing, turn: Turn) -> TurnCost:
    """The closed form of one turn; it is cold where its queues start with it."""
    chain = longest_path(timing, turn, cold=False)
    memory = max(_served(timing, turn, queue) for queue in range(len(timing.queues)))
    if _cold(turn):
        slowest = longest_path(timing, turn, cold=True).cycles
    else:
        slowest = chain.cycles
    cycles = max(slowest, memory, _sent(timing, turn)) + (turn.fence or 0.0)
    return TurnCost(chain, memory, cycles)


def turn_costs(timing: Timing) -> list[TurnCost]:
    """Of every turn of a token; equal turns are looked at once."""
    distinct = {id(turn): turn for turn in timing.turns}
    costs = {key: turn_cost(timing, turn) for key, turn in distinct.items()}
    return [costs[id(turn)] for turn in timing.turns]


def closed_form(timing: Timing) -> Outcome:
    """A token by the closed form: what is not busy is idle, and nothing waits for credits."""
    costs = turn_costs(timing)
    turns = sum(cost.cycles for cost in costs)
    chains = sum(
        cost.cycles if _cold(turn) else cost.chain.cycles
        for turn, cost in zip(timing.turns, costs, strict=True)
    )
    if timing.turns[0].gate is Gate.BEGIN:
        cycles = turns + timing.overhead
    else:
        cycles = max(turns, chains + timing.overhead)
    tally = Tally.zero(timing)
    tally.blocks[timing.segments[timing.turns[0].segment].block] += cycles - turns
    for turn, cost in zip(timing.turns, costs, strict=True):
        segment = timing.segments[turn.segment]
        tally.blocks[segment.block] += cost.cycles
        tally.link[0] += _sent(timing, turn)
        for queue in range(len(timing.queues)):
            tally.busy[queue] += _served(timing, turn, queue)
        for index in segment.stages:
            stage = timing.stages[index]
            busy = max(stage.work, _taken(timing, index)) + stage.wire_last + stage.latency
            tally.active[index] += busy
    return Outcome((0.0, cycles), tally, (0,) * len(timing.flows))


def _cold(turn: Turn) -> bool:
    return turn.gate is not Gate.NOTHING or turn.launch > 0


def _sent(timing: Timing, turn: Turn) -> float:
    stages = timing.segments[turn.segment].stages
    return sum(timing.stages[stage].wire for stage in stages)


def longest_path(timing: Timing, turn: Turn, *, cold: bool) -> Path:
    """The longest path through a turn's stages. `cold`: tiles arrive one after the other."""
    stages = timing.segments[turn.segment].stages
    arrives = _arrivals(timing, turn) if cold else {}
    found: dict[int, _Span] = {}
    waiting = list(stages)
    while waiting:
        known = [stage for stage in waiting if _known(timing, stage, stages, found)]
        if not known:
            names = ", ".join(timing.stages[stage].name for stage in waiting)
            raise BackendError("HETC-L104", "stages of one iteration wait for each other", at=names)
        for stage in known:
            waiting.remove(stage)
            found[stage] = _span(timing, turn, stage, found, arrives)
    last = max(found, key=lambda stage: found[stage].end)
    path: list[str] = []
    through: int | None = last
    while through is not None:
        path.append(timing.stages[through].name)
        through = found[through].through
    return Path(found[last].end, tuple(reversed(path)))


@dataclass(frozen=True)
class _Span:
    """First result and end of a stage, and the stage on the longest path before it."""

    first: float
    end: float
    through: int | None


def _span(
    timing: Timing,
    turn: Turn,
    index: int,
    found: Mapping[int, _Span],
    arrives: Mapping[int, tuple[float, float]],
) -> _Span:
    stage = timing.stages[index]
    gate, through = 0.0, None
    produced, producer = 0.0, None
    for wait in stage.waits:
        if wait.when is not When.SAME or wait.stage not in found:
            continue
        other = found[wait.stage]
        start = other.first if wait.streamed else other.end
        if start > gate or through is None:
            gate, through = max(gate, start), wait.stage
        if wait.streamed and other.end > produced:
            produced, producer = other.end, wait.stage
    gate += turn.launch
    clock, tail = gate, 0.0
    for number in stage.flows:
        flow = timing.flows[number]
        start, arrival = arrives.get(number, (0.0, 0.0))
        if turn.launch and number in arrives:
            arrival += gate - start
        clock = max(clock + flow.take * (flow.tiles - 1), arrival) + flow.take_last
        tail = flow.take_last
    own = max(clock, gate + stage.work)
    done = max(own, produced + tail)
    if stage.wire:
        done = max(gate + stage.wire, done + stage.wire_last)
    end = done + stage.latency
    first = end if stage.wire else min(end, gate + _first_take(timing, index) + stage.latency)
    return _Span(first, end, producer if produced + tail > own else through)


def _first_take(timing: Timing, stage: int) -> float:
    flows = timing.stages[stage].flows
    if not flows:
        return 0.0
    flow = timing.flows[flows[0]]
    return flow.take if flow.tiles > 1 else flow.take_last


def _taken(timing: Timing, stage: int) -> float:
    flows = (timing.flows[flow] for flow in timing.stages[stage].flows)
    return sum(flow.take * (flow.tiles - 1) + flow.take_last for flow in flows)


def _known(timing: Timing, stage: int, stages: tuple[int, ...], found: Mapping[int, _Span]) -> bool:
    waits = timing.stages[stage].waits
    same = [wait.stage for wait in waits if wait.when is When.SAME and wait.stage in stages]
    return all(other in found for other in same)


def _arrivals(timing: Timing, turn: Turn) -> dict[int, tuple[float, float]]:
    """When a queue that starts with the turn begins each flow, and when its last tile is there."""
    arrives = {}
    for queue, work in zip(timing.queues, turn.work, strict=True):
        free = 0.0
        for item in work:
            start = free
            if isinstance(item, Read):
                flow = timing.flows[item.flow]
                free += flow.serve * (flow.tiles - 1) + flow.serve_last
                arrives[item.flow] = (start, free + queue.latency)
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
