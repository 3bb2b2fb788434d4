"""Placement and routing of one section together: a placement that cannot be routed is made anew.

Each attempt anneals from another seed; from the second on, nets count by their demand, so that wide
ones become short.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from hetc.backends.dataflow.fabric import Fabric
from hetc.backends.dataflow.nets import Flow, Net, StageUnits, build_nets
from hetc.backends.dataflow.place import Placement, PlaceOptions, place
from hetc.backends.dataflow.route import Routing, Unroutable, route
from hetc.errors import PlanError

_ATTEMPTS = 6


@dataclass(frozen=True)
class Layout:
    """A section on the fabric: its nets, a site for every unit, a route for every net."""

    nets: tuple[Net, ...]
    placement: Placement
    routing: Routing


def lay_out(
    fabric: Fabric,
    stages: Sequence[StageUnits],
    flows: Sequence[Flow],
    options: PlaceOptions | None = None,
) -> Layout:
    """Place and route a section; the same input gives the same layout on every machine.

    Raises `PlanError`: stages or flows that contradict themselves (HETC-D101 to D104), too few
    lanes (D110), pins that cannot be (D111), a net wider than a link (D120), or a network that
    stays too narrow after six attempts (D121).
    """
    options = options or PlaceOptions()
    nets = build_nets(fabric, stages, flows)
    for net in nets:
        _check_width(fabric, net)
    failures: list[Unroutable] = []
    for attempt in range(_ATTEMPTS):
        tried = dataclasses.replace(
            options,
            seed=options.seed + attempt,
            weigh_demand=options.weigh_demand or attempt > 0,
        )
        placement = place(fabric, stages, nets, tried)
        routing = route(fabric, nets, placement)
        if isinstance(routing, Routing):
            return Layout(nets, placement, routing)
        failures.append(routing)
    raise _too_narrow(fabric, min(failures, key=lambda failure: failure.overfull_links))


def _check_width(fabric: Fabric, net: Net) -> None:
    widths = {
        "vector": fabric.link_bytes_per_cycle,
        "scalar": fabric.scalar_link_bytes_per_cycle,
    }
    bound = widths[net.network]
    if net.bytes_per_cycle > bound:
        raise PlanError(
            "HETC-D120",
            "a net is wider than a link of its network",
            at=net.name,
            expected=f"at most {bound} B/cycle on the {net.network} network of {fabric.name}",
            found=f"{net.bytes_per_cycle} B/cycle, {net.bytes_per_cycle - bound} too many",
            do="give the stages more outputs, split the flow, or lower its rate",
        )


def _too_narrow(fabric: Fabric, failure: Unroutable) -> PlanError:
    nets = ", ".join(failure.nets[:4]) + (", ..." if len(failure.nets) > 4 else "")
    others = failure.overfull_links - 1
    return PlanError(
        "HETC-D121",
        f"no placement of {_ATTEMPTS} could be routed: a link is overfull",
        at=f"{failure.network} link of {fabric.name} from {failure.link}, nets {nets}",
        expected=f"at most {failure.bound} B/cycle",
        found=f"{failure.demand} B/cycle, {failure.demand - failure.bound} too many"
        + (f"; {others} more links are overfull" if others else ""),
        do="spread the nets over more memory ports, lower their rates, or split the section",
    )
