"""The techniques of a spatial plan, each switched off to see what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hetc.backends.dataflow.schema import Plan, Request
from hetc.backends.dataflow.simulate import simulate, speeds_of
from hetc.targets import Target

TECHNIQUES = {
    "everything": Request(),
    "no row groups: all sequences together": Request(row_groups=1),
    "no prefetch over iterations": Request(prefetch=False),
    "no overlap of all-reduces": Request(overlap=False),
    "neither": Request(prefetch=False, overlap=False),
    "no looping: a launch a layer": Request(looping=False),
    "not fused: a launch a stage, activations through memory": Request(fused=False),
}
Replan = Callable[[Target, Request], Plan]


@dataclass(frozen=True)
class Without:
    """TPOT of a plan that a technique is left out of, and over that of the plan with all."""

    technique: str
    tpot_us: float
    ratio: float


def techniques(replan: Replan, machine: Target) -> tuple[Without, ...]:
    """One entry for each of TECHNIQUES, in its order, `everything` first; raises what `replan`
    raises."""
    speeds = speeds_of(machine)
    tpot_us = {
        name: simulate(replan(machine, request), speeds).tpot_us
        for name, request in TECHNIQUES.items()
    }
    best = tpot_us["everything"]
    return tuple(Without(name, time, time / best) for name, time in tpot_us.items())
