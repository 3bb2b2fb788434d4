"""What limits the ops of a captured graph, on which target they are placed, and what they take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from hetc.errors import PartitionError, Reason
from hetc.interop.phase import GraphPhase
from hetc.ir.graph import Graph, Whole
from hetc.passes.cost import PhaseCosts, phase_costs
from hetc.passes.mark import mark_of
from hetc.passes.op_times import op_times
from hetc.passes.partition import Cut, CutOptions, partition
from hetc.passes.workload import OneCall, Phase
from hetc.targets import Link, Target


@dataclass(frozen=True)
class Machines:
    """The targets by role, and what links them."""

    devices: Mapping[Phase, Target]
    link: Link


@dataclass(frozen=True)
class Marks:
    """The ops of a graph without those that are free, counted by mark and by target; the number of
    all, and their estimated seconds, transfers included. `uncut` says why a graph that could have
    been cut is on one target."""

    ops: int
    counts: Mapping[str, int]
    placed: Mapping[str, int]
    seconds: float
    uncut: Reason | None = None


def mark_graph(
    graph: Graph, phase: GraphPhase, sizes: Mapping[str, int], machines: Machines
) -> Marks:
    """The marks of `graph` at `sizes`, which has a number for each of its symbols.

    A graph of one phase is on that phase's target. One of none is cut between both, as `hetc
    compile` cuts a model without phases.
    """
    costs = phase_costs(graph, phase or "forward")
    home = machines.devices[phase or "prefill"]
    cut = None if phase else _cut(graph, costs, sizes, machines)
    where: dict[int, Target] = {}
    if isinstance(cut, Cut):
        where = {index: cut.devices[role] for (_, index), role in cut.assignment.items()}
    marks: Counter[str] = Counter()
    placed: Counter[str] = Counter()
    seconds = 0.0
    for cost in costs:
        amounts, target = cost.work.at(sizes), where.get(cost.index, home)
        # An op is marked as if it stood alone, and timed inside its neighbour's kernel.
        mark = mark_of(op_times(cost.work, amounts, target, alone=True))
        if mark != "free":
            marks[mark] += 1
            placed[target.name] += 1
        seconds += op_times(cost.work, amounts, target).seconds
    return Marks(
        len(costs.ops),
        dict(sorted(marks.items())),
        dict(sorted(placed.items())),
        cut.seconds_total if isinstance(cut, Cut) else seconds,
        cut if isinstance(cut, Reason) else None,
    )


def _cut(
    graph: Graph, costs: PhaseCosts, sizes: Mapping[str, int], machines: Machines
) -> Cut | Reason:
    try:
        return partition(
            Whole(graph.name, graph),
            OneCall(sizes),
            machines.devices,
            machines.link,
            options=CutOptions(flips=False),
            costs={"forward": costs},
        )
    except PartitionError as error:
        return Reason(error.code, f"{error.what}: {error.found}")
