"""The error of a model that does not fit: demand, bound, shortfall and what would help."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hetc.errors import PartitionError
from hetc.passes.partition_layout import Layout
from hetc.passes.partition_problem import Problem
from hetc.passes.workload import AnyWorkload
from hetc.targets import Target


def does_not_fit(
    layout: Layout, problem: Problem, targets: Sequence[Target], workload: AnyWorkload
) -> PartitionError:
    """HETC-P010 where no cut can fit (everything, stored once, exceeds both memories), else
    P011."""
    demand, bound = stored_once(problem), float(problem.capacity.sum())
    weights = sum(
        size
        for kept, size in zip(layout.kept, problem.store_bytes.tolist(), strict=True)
        if kept.kind == "weight"
    )
    needs = (
        f"{_gb(demand)}: {_gb(weights)} of weights and {_gb(demand - weights)} of state for "
        f"{workload}"
    )
    memories = " + ".join(f"{_gb(t.room_bytes)} ({t.name})" for t in targets)
    proven = demand > bound
    return PartitionError(
        "HETC-P010" if proven else "HETC-P011",
        "the model does not fit the memory of the devices"
        if proven
        else "no assignment that fits the memory of the devices was found",
        at=f"main memory of {' and '.join(target.name for target in targets)}",
        expected=f"at most {_gb(bound)} = {memories}",
        found=f"{needs}; short by {_gb(demand - bound)}"
        if proven
        else f"{needs}; what both phases use on different devices is stored twice",
        do=_remedy(targets, demand, weights, bound),
    )


def stored_once(problem: Problem) -> float:
    """Bytes with everything stored once: no assignment holds less."""
    return float(problem.store_bytes.sum())


def _remedy(targets: Sequence[Target], demand: float, weights: float, bound: float) -> str:
    """More devices of the kinds at hand, then fewer bits."""
    remedies = []
    for role, target in zip(("--prefill", "--decode"), targets, strict=True):
        count = 1 << math.ceil(math.log2(max(1.0, demand / target.room_bytes * target.count)))
        if "peer" in target.device.links and count > target.count:
            remedies.append(f"{role} {target.device.name}:{count}")
    state = demand - weights
    if bound > state and weights > 0:
        share = (bound - state) / weights
        if share < 1:
            remedies.append(f"weights in at most {share:.0%} of their present bits")
    else:
        remedies.append("a smaller batch or context")
    return ", or ".join(remedies) or "choose a target with more memory"


def _gb(nbytes: float) -> str:
    return f"{nbytes / 1e9:,.1f} GB"
