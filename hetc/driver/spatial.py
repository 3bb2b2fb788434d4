"""The decode half as a spatial plan: shard it, plan it, time it, lint it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

import msgspec

import hetc
from hetc.backends.dataflow.credits import fewest_credits
from hetc.backends.dataflow.fabric import fabric_of
from hetc.backends.dataflow.fastest import fastest
from hetc.backends.dataflow.floorplan import floorplan, stage_of
from hetc.backends.dataflow.lint import Finding, lint, verdicts
from hetc.backends.dataflow.plan_file import read_request
from hetc.backends.dataflow.planner import Planner, Sizes
from hetc.backends.dataflow.schema import Constant, Estimate, Plan, Request, Stage
from hetc.backends.dataflow.simulate import Simulated, simulate, speeds_of
from hetc.errors import InputError
from hetc.ir.graph import Graph
from hetc.ir.text import print_graph
from hetc.passes.shard import Sharded, shard
from hetc.passes.workload import Workload
from hetc.report.summary import SpatialFacts
from hetc.targets import Target

NO_REQUEST = Request()


@dataclass(frozen=True, eq=False)
class Spatial:
    """A plan with its estimate and checks, and the graph of one socket that it is of."""

    plan: Plan
    sharded: Sharded
    simulated: Simulated
    findings: tuple[Finding, ...]
    main_memory: str

    def facts(self) -> SpatialFacts:
        """What a summary tells of it."""
        used = [section.resources for section in self.plan.sections]
        fullest = max(used, key=lambda resources: resources.pcus)
        return SpatialFacts(
            sections=len(used),
            units=fullest.pcus,
            units_of=fullest.pcus_of,
            tpot_s=self.simulated.tpot_us * 1e-6,
            mbu=self.simulated.mbu,
            mbu_bound=self.simulated.mbu_bound,
            bottleneck=self.simulated.bottleneck.name,
            spilled_bytes=sum(
                item.bytes * item.count
                for item in self.plan.memory
                if item.tier != self.main_memory
            ),
        )

    @cached_property
    def graph_text(self) -> str:
        """The socket's graph; its digest is in the plan."""
        return print_graph(self.sharded.graph)


def request_of(path: str | Path | None) -> Request:
    """What the file at `path` fixes of a plan; nothing for None."""
    return NO_REQUEST if path is None else read_request(path)


def plan_spatially(
    decode: Graph, target: Target, workload: Workload, request: Request = NO_REQUEST
) -> Spatial:
    """The plan of the outlined `decode` on `target`.

    Raises TargetError for a target without a grid, BackendError HETC-E03x where it is too small,
    InputError (HETC-L003) for a request about a stage that there is none of.
    """
    planner, unplaced = _unplaced(decode, target, workload, request)
    sharded = planner.sharded
    drawn = floorplan(unplaced, planner.fabric)
    simulated = simulate(drawn, speeds_of(target))
    estimated = msgspec.structs.replace(
        drawn, estimate=_estimate(drawn, simulated, sharded, target)
    )
    checked = msgspec.structs.replace(estimated, checks=verdicts(estimated, target, sharded.graph))
    return Spatial(
        checked,
        sharded,
        simulated,
        lint(checked, target, sharded.graph),
        target.device.main_memory,
    )


def plan_unplaced(
    decode: Graph, target: Target, workload: Workload, request: Request = NO_REQUEST
) -> Plan:
    """The plan without places and routes, on which a simulated time does not depend: soon made.

    Raises what `plan_spatially` raises, but for errors of placing and routing.
    """
    return _unplaced(decode, target, workload, request)[1]


def _unplaced(
    decode: Graph, target: Target, workload: Workload, request: Request
) -> tuple[Planner, Plan]:
    sharded = shard(decode, target.count, replicate_below_bytes=_cheaper_replicated(target))
    sizes = Sizes(workload.batch, workload.bindings("decode")["P"], workload.rows)
    tool, speeds = f"hetc {hetc.__version__}", speeds_of(target)

    def grouped(row_groups: int) -> Planner:
        return Planner(sharded, target, sizes, request, tool, row_groups=row_groups)

    planner = fastest(grouped, sizes.batch, request.row_groups, speeds)
    plan = planner.plan()
    _check_names(request, [stage for block in plan.blocks for stage in block.stages])
    return planner, fewest_credits(plan, speeds, planner.capacity)


def _check_names(request: Request, stages: Sequence[Stage]) -> None:
    """Raise InputError (HETC-L003) for a part of the request that is about no stage."""
    names = {name for stage in stages for name in (stage.id, stage.name)}
    globs = [
        entry.stage
        for entry in request.stages
        if not any(fnmatchcase(name, entry.stage) for name in names)
    ]
    pins = [pin.unit for pin in request.pins if stage_of(pin.unit) not in names]
    for what, found in (("stage", globs), ("unit", pins)):
        if found:
            near = difflib.get_close_matches(found[0], sorted(names), cutoff=0.0)
            raise InputError(
                "HETC-L003",
                f"the plan file is about a {what} that the plan does not have",
                at="--plan",
                expected=f"{', '.join(near)}, ...",
                found=found[0],
                do="the plan of a bundle that is made without --plan names its stages",
            )


def _cheaper_replicated(target: Target) -> int:
    """Bytes of a weight that every socket reads sooner than it gathers what parts of it give."""
    fabric = fabric_of(target)
    if fabric.peer is None:
        return 0
    return int(fabric.peer.latency_cycles * fabric.tiers[fabric.main_memory].bytes_per_cycle)


def _estimate(plan: Plan, simulated: Simulated, sharded: Sharded, target: Target) -> Estimate:
    return Estimate(
        model=f"simulated, {simulated.mode}",
        calibrated=False,
        tpot_us=simulated.tpot_us,
        tokens_per_s=simulated.tokens_per_s,
        bytes_read=simulated.bytes_read,
        unique_bytes=_unique_bytes(plan),
        mbu=simulated.mbu,
        mbu_bound=simulated.mbu_bound,
        bottleneck=f"{simulated.bottleneck.name}: {simulated.bottleneck.why}",
        constants=assumed(target),
    )


def assumed(target: Target) -> tuple[Constant, ...]:
    """The numbers that a simulated time rests on and nobody measured."""
    used = ("bandwidth_fraction", "step_us", "section_launch_us")
    constants = target.device.constants
    return tuple(
        Constant(name=name, value=constants[name].value, source=constants[name].why)
        for name in used
        if name in constants
    )


def _unique_bytes(plan: Plan) -> int:
    """Bytes of the model that a token reads over all sockets, each part of a tensor once."""
    parts = {(item.block, item.tensor): item.parts for item in plan.shards}
    held: dict[tuple[str, str, str], int] = {}
    for item in plan.memory:
        if item.use != "table":
            key = (item.block, item.tensor, item.tier)
            held[key] = held.get(key, 0) + item.bytes
    total = 0.0
    for block in plan.blocks:
        for stream in block.streams:
            sizes = {name: held.get((block.id, name, stream.tier), 1) for name in stream.tensors}
            unique = sum(size * parts[block.id, name] for name, size in sizes.items())
            total += block.repeat * stream.bytes * unique / sum(sizes.values())
    return round(total)
