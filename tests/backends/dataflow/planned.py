"""Plans that hetc made: the toy model on the fictional grid, with sites and routes."""

from __future__ import annotations

from functools import cache

from hetc.backends.dataflow.fabric import Fabric, fabric_of
from hetc.backends.dataflow.schema import Plan, Request
from hetc.driver.spatial import plan_spatially
from hetc.passes.workload import Workload
from hetc.targets import load
from tests.backends.dataflow.toy_graph import toy_graph

ONE, TWO = "grid-8x8", "grid-8x8:2"


@cache
def planned(target: str = ONE, past: int = 64) -> Plan:
    """The toy on one socket in one section, or on two (`TWO`), with exchanges, in two sections."""
    request = Request(place_moves=4000)
    return plan_spatially(toy_graph(1), load(target), Workload(1, past, 16), request).plan


def fabric(target: str = ONE) -> Fabric:
    """What the plan is for."""
    return fabric_of(load(target))
