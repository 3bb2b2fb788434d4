"""What limits the ops of a region on a target, and what they take there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from hetc.ir.graph import Graph
from hetc.passes.cost import phase_costs
from hetc.passes.mark import mark_of
from hetc.passes.op_times import op_times
from hetc.passes.workload import Phase
from hetc.targets import Target


@dataclass(frozen=True)
class Marks:
    """Ops counted by mark, without those that are free; the number and estimated seconds of all."""

    ops: int
    counts: Mapping[str, int]
    seconds: float


def mark_graph(graph: Graph, target: Target, phase: Phase, sizes: Mapping[str, int]) -> Marks:
    """The marks of `graph` on `target` at `sizes`, which has a number for each of its symbols."""
    counts: Counter[str] = Counter()
    seconds = 0.0
    costs = phase_costs(graph, phase)
    for cost in costs:
        amounts = cost.work.at(sizes)
        # An op is marked as if it stood alone, and timed inside its neighbour's kernel.
        mark = mark_of(op_times(cost.work, amounts, target, alone=True))
        if mark != "free":
            counts[mark] += 1
        seconds += op_times(cost.work, amounts, target).seconds
    return Marks(len(costs.ops), dict(sorted(counts.items())), seconds)
