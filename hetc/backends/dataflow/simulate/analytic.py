"""The closed form: a turn takes the longer of its memory traffic and its chain of dependences.

    resident, read ahead        max(chain, bytes / bandwidth)
    launched, or not read ahead cold chain (each byte waits for those before it) + launch
    row groups                  max(chain of one, groups x busiest stage, bytes / bandwidth)
    a token                     max(turns, chains + overhead); without prefetch turns + overhead

It knows nothing of credits, and so of buffers that are too small, and nothing of how a pipeline of
row groups fills and drains.
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


Pass = tuple[Turn, ...]
"""The turns of all row groups of an iteration, or the one turn where it has no groups."""


@dataclass(frozen=True)
class PassCost:
    """A pass in isolation: its longest path with all tiles there, what its stages take with that
    (`chain`), the busiest queue's time, and all of it."""

    path: Path
    chain: float
    memory: float
    cycles: float


def passes(timing: Timing) -> list[Pass]:
    """The turns of a token, those of one iteration together."""
    found: list[Pass] = []
    start = 0
    while start < len(timing.turns):
        stop = start + timing.segments[timing.turns[start].segment].groups
        found.append(timing.turns[start:stop])
        start = stop
    return found


def pass_cost(timing: Timing, turns: Pass) -> PassCost:
    """The closed form of one pass; it is cold where its queues start with it."""
    turn = turns[0]
    path = longest_path(timing, turn, cold=False)
    queues = range(len(timing.queues))
    memory = max(sum(_served(timing, turn, queue) for turn in turns) for queue in queues)
    stages = timing.segments[turn.segment].stages
    busiest = max(_occupied(timing, stage) for stage in stages)
    chain = max(path.cycles, len(turns) * busiest)
    slowest = longest_path(timing, turn, cold=True).cycles if _cold(turn) else chain
    if _cold(turn):
        slowest += (len(turns) - 1) * busiest
    cycles = max(slowest, memory, len(turns) * _sent(timing, turn)) + (turn.fence or 0.0)
    return PassCost(path, chain, memory, cycles)


def closed_form(timing: Timing) -> Outcome:
    """A token by the closed form: what is not busy is idle, and nothing waits for credits."""
    done = passes(timing)
    # Equal turns are equal objects: they are looked at once.
    distinct = {tuple(map(id, turns)): turns for turns in done}
    known = {key: pass_cost(timing, turns) for key, turns in distinct.items()}
    costs = [known[tuple(map(id, turns))] for turns in done]
    turns = sum(cost.cycles for cost in costs)
    chains = sum(
        cost.cycles if _cold(turns[0]) else cost.chain
        for turns, cost in zip(done, costs, strict=True)
    )
    if timing.turns[0].gate is Gate.BEGIN:
        cycles = turns + timing.overhead
    else:
        cycles = max(turns, chains + timing.overhead)
    tally = Tally.zero(timing)
    tally.blocks[timing.segments[timing.turns[0].segment].block] += cycles - turns
    for group, cost in zip(done, costs, strict=True):
        segment = timing.segments[group[0].segment]
        tally.blocks[segment.block] += cost.cycles
        tally.link[0] += len(group) * _sent(timing, group[0])
        for queue in range(len(timing.queues)):
            tally.busy[queue] += sum(_served(timing, turn, queue) for turn in group)
        for index in segment.stages:
            busy = len(group) * _occupied(timing, index) + timing.stages[index].latency
            tally.active[index] += min(busy, cost.cycles)
    return Outcome((0.0, cycles), tally, (0,) * len(timing.flows))


def _cold(turn: Turn) -> bool:
    return turn.gate is not Gate.NOTHING or turn.launch > 0


def _sent(timing: Timing, turn: Turn) -> float:
    stages = (timing.stages[stage] for stage in timing.segments[turn.segment].stages)
    return sum(stage.wire * stage.share for stage in stages)


def _occupied(timing: Timing, index: int) -> float:
    """What one turn keeps the units of a stage busy, or its share of the link."""
    stage = timing.stages[index]
    own = max(stage.work, _taken(timing, index)) + stage.wire_last
    return max(own, stage.wire) if stage.share < 1 else own


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
