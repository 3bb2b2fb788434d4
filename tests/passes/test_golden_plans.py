"""Cost, marks and the cut of a two-layer decoder as text: a changed cost model shows here first."""

from __future__ import annotations

from hetc import targets
from hetc.passes.cost import PhaseCosts, program_costs
from hetc.passes.mark import mark_op
from hetc.passes.partition import CutOptions, partition
from hetc.passes.workload import PHASES, Phase, Workload
from tests.golden import Golden
from tests.passes.toy_llama import Shape, program

SHAPE = Shape(hidden=1024, heads=8, groups=2, inner=2048, vocab=4096)
PROGRAM = program(SHAPE)
COSTS = program_costs(PROGRAM)
WORKLOAD = Workload(2, 512, 128)
TARGETS: dict[Phase, targets.Target] = {
    "prefill": targets.load("grid-8x8:4"),
    "decode": targets.load("grid-8x8"),
}


def table(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def first_layer(costs: PhaseCosts) -> list[int]:
    """Places of the ops outside of layer 1, which repeats layer 0."""
    return [place for place, cost in enumerate(costs.ops) if not cost.name.startswith("layers.1")]


def test_costs_as_functions_of_the_sizes(golden: Golden) -> None:
    rows = [["op", "flops", "weights", "state", "activations", "written"]]
    for phase in PHASES:
        for place in first_layer(COSTS[phase]):
            cost = COSTS[phase].ops[place]
            work = cost.work
            parts = (work.flops, work.weight_bytes, work.state_bytes, work.activation_bytes)
            rows.append([f"{phase}:{cost.name}", *map(str, parts), str(work.bytes_written)])
    golden("cost.txt", table(rows))


def test_marks_and_their_crossovers(golden: Golden) -> None:
    rows = [["op", "mark", "flips"]]
    for phase in PHASES:
        for place in first_layer(COSTS[phase]):
            cost = COSTS[phase].ops[place]
            mark = mark_op(cost.work, TARGETS[phase], phase, WORKLOAD.bindings(phase))
            if mark.kind != "free":
                flips = (f"{c.mark} at {c.size} {c.at}" for c in mark.crossovers)
                rows.append([f"{phase}:{cost.name}", mark.kind, ", ".join(flips)])
    golden("mark.txt", table(rows))


def test_the_cut_and_what_crosses(golden: Golden) -> None:
    cut = partition(
        PROGRAM, WORKLOAD, TARGETS, targets.load_link(25.0), options=CutOptions(granularity="phase")
    )
    lines = [f"{cut.method}, gap {cut.gap:.0f}"]
    for phase in PHASES:
        used = {role for (where, _), role in cut.assignment.items() if where == phase}
        lines.append(f"{phase} on {', '.join(cut.devices[role].name for role in sorted(used))}")
    lines += [f"{t.kind} {t.name}: {t.nbytes} B, {t.times} times" for t in cut.transfers]
    golden("cut.txt", "\n".join(lines))
