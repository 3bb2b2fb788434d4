"""Partition: which device runs which op of which phase, so that a workload takes the least time.

Both phases are cut at once, because the state that prefill hands to decode and the weights that
they share tie them together. Phase is not device: every op of either phase may be on either device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hetc.errors import PartitionError
from hetc.ir.dims import evaluate
from hetc.ir.graph import Program, Whole
from hetc.passes.cost import PhaseCosts, program_costs
from hetc.passes.partition_capacity import Solution, solve_two
from hetc.passes.partition_flips import Flip, find_flips
from hetc.passes.partition_layout import ROLES, Crossing, Layout, OpKey, lay_out
from hetc.passes.partition_mincut import CutNetwork, cut_network
from hetc.passes.partition_problem import Ints, Problem
from hetc.passes.partition_rules import Capabilities, Rules
from hetc.passes.partition_shortage import does_not_fit, stored_once
from hetc.passes.workload import PHASES, AnyWorkload, Phase
from hetc.targets import Link, Target

Granularity = Literal["op", "phase"]


@dataclass(frozen=True)
class CutOptions:
    """How to cut.

    `pins` map a glob of op names to the role of a device (`{"layers.*.mlp.*": "decode"}`); a glob
    counts for both phases unless it starts with one, `decode:lm_head`. `granularity` `phase` keeps
    each phase on one device. `flips` looks for the workloads at which another cut wins.
    """

    pins: Mapping[str, str] | None = None
    granularity: Granularity = "op"
    flips: bool = True


@dataclass(frozen=True)
class Transfer:
    """One tensor that crosses the link: `nbytes` each of `times` times, `seconds` over the
    workload.

    `kind` is `activation`, `handoff` (state, from prefill to decode) or `carried` (state, after
    every token); `name` is the state or the op that makes the tensor.
    """

    kind: str
    name: str
    phase: Phase
    source: Phase
    destination: Phase
    nbytes: int
    times: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Cut:
    """The found assignment, what it costs, and how good it is. All times are estimated.

    `devices` are the targets by role; `assignment` gives the role of the device that runs an op,
    which is keyed by phase and place in the phase's graph with all calls inlined. `seconds_total`
    is the whole workload, `phase_seconds` its parts: `prefill`, `handoff` and `decode` (all steps),
    or `forward` alone.
    `alternatives` are the seconds of other cuts without pins, None where one does not fit. `flips`
    leave pins aside too.
    """

    workload: AnyWorkload
    devices: Mapping[Phase, Target]
    link: Link
    assignment: Mapping[OpKey, Phase]
    transfers: tuple[Transfer, ...]
    seconds_total: float
    phase_seconds: Mapping[str, float]
    lower_bound: float
    gap: float
    method: str
    alternatives: Mapping[str, float | None]
    flips: tuple[Flip, ...]
    held_bytes: Mapping[Phase, float]
    layout: Layout
    problem: Problem
    nodes: Ints
    rules: Rules

    @property
    def is_split(self) -> bool:
        """Whether both devices have work."""
        return len(set(self.nodes.tolist())) > 1


def partition(
    program: Program | Whole,
    workload: AnyWorkload,
    devices: Mapping[Phase, Target],
    link: Link,
    *,
    options: CutOptions = CutOptions(),
    capabilities: Capabilities | None = None,
    costs: Mapping[Phase, PhaseCosts] | None = None,
) -> Cut:
    """The cheapest cut of `program` for `workload` that fits the memories of both devices.

    `devices` are the targets that the user named for `prefill` and `decode`, joined by `link`.
    `capabilities[role][kind]` is why a device cannot run a kind of op; an op that neither can run
    is left where it is cheapest, as a fallback. Raises PartitionError: HETC-P001 to P003 for pins,
    P010 where the memories are too small for any cut, P011 where none that fits was found.
    """
    costs = costs or program_costs(program)
    rules = Rules.of(costs, options.pins or {}, capabilities or {})
    layout = lay_out(program, costs, rules.roles)
    targets = [devices[role] for role in ROLES]
    problem = layout.price(workload, targets, link)
    group = layout.phase_of if options.granularity == "phase" else np.arange(len(layout.members))
    solver = _Solver(group, problem, rules, layout)
    if stored_once(problem) > problem.capacity.sum():
        raise does_not_fit(layout, problem, targets, workload)
    solution = solver.solve(problem)
    if solution.assignment is None:
        raise does_not_fit(layout, problem, targets, workload)
    nodes = solution.assignment
    flips: tuple[Flip, ...] = ()
    if options.flips:
        flips = find_flips(layout, workload, targets, link, solver.winner)
    transfers = _transfers(layout, problem, nodes, workload)
    held = problem.held(nodes)
    return Cut(
        workload=workload,
        devices={role: devices[role] for role in ROLES},
        link=link,
        assignment={key: ROLES[nodes[node]] for key, node in sorted(layout.home.items())},
        transfers=transfers,
        seconds_total=solution.seconds,
        phase_seconds=_phase_seconds(layout, problem, nodes, transfers),
        lower_bound=solution.lower_bound,
        gap=solution.gap,
        method=solution.method,
        alternatives=solver.alternatives(problem),
        flips=flips,
        held_bytes={role: float(held[d]) for d, role in enumerate(ROLES)},
        layout=layout,
        problem=problem,
        nodes=nodes,
        rules=rules,
    )


class _Solver:
    """Solves the problem of one layout for many workloads, with nodes of one group kept
    together."""

    def __init__(self, group: Ints, problem: Problem, rules: Rules, layout: Layout) -> None:
        self.group = group
        self.phases, self.phase_of = layout.phases, layout.phase_of
        able = [
            [all(role in rules.able(cost) for cost in group) for role in ROLES]
            for group in layout.members
        ]
        self.able = np.array(able, dtype=bool).reshape(-1, len(ROLES))
        self.together = problem.grouped(group)
        impossible = np.flatnonzero(~self.together.allowed.any(axis=1))
        if len(impossible):
            raise PartitionError(
                "HETC-P003",
                "no device may run a whole phase",
                at=layout.phases[int(impossible[0])],
                found="pins or capabilities that need both devices",
                do="cut by op, or change the pins",
            )
        self.network: CutNetwork = cut_network(self.together)

    def _grouped(self, problem: Problem) -> Problem:
        """`problem.grouped`, with the structure that is known already."""
        seconds = np.zeros_like(self.together.seconds)
        np.add.at(seconds, self.group, problem.seconds)
        allowed = np.ones_like(self.together.allowed)
        np.logical_and.at(allowed, self.group, problem.allowed)
        known = self.together
        return replace(
            problem,
            seconds=seconds,
            allowed=allowed,
            nets=known.nets,
            setups=known.setups,
            stores=known.stores,
        )

    def solve(self, problem: Problem) -> Solution:
        found = solve_two(self._grouped(problem), self.network)
        if found.assignment is None:
            return found
        return Solution(
            found.assignment[self.group], found.seconds, found.lower_bound, found.method
        )

    def winner(self, problem: Problem) -> str:
        """`split`, or the role of the only device that has work; pins and memories do not count."""
        free = replace(problem, allowed=self.able)
        used = set(self.network.solve(self._grouped(free))[0].tolist())
        # Either will do where there is nothing to run.
        return "split" if len(used) > 1 else ROLES[min(used, default=0)]

    def alternatives(self, problem: Problem) -> dict[str, float | None]:
        """What was not chosen, pins left aside."""
        free = replace(problem, allowed=self.able)

        def seconds(nodes: Ints) -> float | None:
            total = free.total(nodes)
            return total if free.fits(nodes) and np.isfinite(total) else None

        found = {f"{role} device only": seconds(free.uniform(d)) for d, role in enumerate(ROLES)}
        if self.phases == PHASES:
            found["each phase on its own device"] = seconds(self.phase_of)
        found["best by op, no pins"] = seconds(cut_network(free).solve(free)[0])
        return found


def _transfers(
    layout: Layout, problem: Problem, nodes: Ints, workload: AnyWorkload
) -> tuple[Transfer, ...]:
    net, source, destination = problem.crossings(nodes)
    seconds = problem.crossing_seconds(net, source, destination)
    made = []
    for number, a, b, taken in zip(net, source, destination, seconds, strict=True):
        crossing: Crossing = layout.crossings[number]
        once = crossing.kind == "handoff"
        made.append(
            Transfer(
                kind=crossing.kind,
                name=crossing.name,
                phase=crossing.phase,
                source=ROLES[a],
                destination=ROLES[b],
                nbytes=evaluate(crossing.nbytes, workload.bindings(crossing.phase)),
                times=1 if once else workload.executions(crossing.phase),
                seconds=float(taken),
            )
        )
    return tuple(made)


def _phase_seconds(
    layout: Layout, problem: Problem, nodes: Ints, transfers: tuple[Transfer, ...]
) -> dict[str, float]:
    work = problem.seconds[np.arange(len(nodes)), nodes]
    names = ("prefill", "handoff", "decode") if layout.phases == PHASES else layout.phases
    seconds = dict.fromkeys(names, 0.0)
    for place, phase in enumerate(layout.phases):
        seconds[phase] = float(work[layout.phase_of == place].sum())
    for phase, fixed in zip(layout.phases, problem.setup_total(nodes).tolist(), strict=True):
        seconds[phase] += fixed
    for transfer in transfers:
        part = "handoff" if transfer.kind == "handoff" else transfer.phase
        seconds[part] += transfer.seconds
    return seconds
