"""Places and routes of a plan's sections: what its stages say, told to the placer and router."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from hetc.backends.dataflow.fabric import Fabric
from hetc.backends.dataflow.layout import lay_out
from hetc.backends.dataflow.nets import Flow, Net, StageUnits, build_nets
from hetc.backends.dataflow.place import PlaceOptions
from hetc.backends.dataflow.schema import Block, Plan, Request, Route, Section, Stage

# A vector is handed on in about this many cycles, so that it does not show in a layer's time.
_HAND_ON_CYCLES = 256


def floorplan(plan: Plan, fabric: Fabric) -> Plan:
    """`plan` with a site for every unit and a route for every net; raises PlanError (HETC-D1xx)
    where a section cannot be placed or routed."""
    sections = tuple(_section(plan, section, fabric) for section in plan.sections)
    return msgspec.structs.replace(plan, sections=sections)


def section_nets(plan: Plan, section: Section, fabric: Fabric) -> tuple[Net, ...]:
    """The nets that the stages of a section ask for, by whose names its routes go; raises
    PlanError (HETC-D10x) where they contradict themselves."""
    return build_nets(fabric, *_wiring(plan, section, fabric))


def _section(plan: Plan, section: Section, fabric: Fabric) -> Section:
    units, flows = _wiring(plan, section, fabric)
    layout = lay_out(fabric, units, flows, _options(plan.request, set(section.stages)))
    routes = tuple(
        Route(
            net=route.net,
            kind=route.kind,
            network=route.network,
            vc=route.vc,
            bytes_per_cycle=route.bytes_per_cycle,
            paths=route.tree,
        )
        for route in layout.routing.routes
    )
    return msgspec.structs.replace(
        section,
        sites=dict(layout.placement.sites),
        routes=routes,
        wirelength=layout.placement.wirelength,
        baseline_wirelength=layout.placement.baseline_wirelength,
    )


def _wiring(plan: Plan, section: Section, fabric: Fabric) -> tuple[list[StageUnits], list[Flow]]:
    """The units of a section's stages, and what passes between them."""
    stages = {stage.id: stage for block in plan.blocks for stage in block.stages}
    here = set(section.stages)
    ports = {id: tuple(_ports(plan, stages[id])) for id in section.stages}
    units = [_units(stages[id], ports[id]) for id in section.stages]
    flows = [flow for block in plan.blocks for flow in _flows(block, stages, here, ports, fabric)]
    return units, flows


def _options(request: Request, here: set[str]) -> PlaceOptions:
    pins = {pin.unit: pin.site for pin in request.pins if stage_of(pin.unit) in here}
    if request.place_moves is None:
        return PlaceOptions(seed=request.seed, pins=pins)
    return PlaceOptions(seed=request.seed, moves=request.place_moves, pins=pins)


def stage_of(unit: str) -> str:
    """`b1.s3` of the unit `b1.s3.w0` and of the stage itself."""
    return ".".join(unit.split(".")[:2])


def _ports(plan: Plan, stage: Stage) -> Iterator[int]:
    """The memory port of each work lane; none where a stage reads nothing."""
    streams = [
        stream for block in plan.blocks for stream in block.streams if stream.stage == stage.id
    ]
    bound = max((stream.ports for stream in streams), key=len, default=())
    for lane in range(stage.units.lanes if bound else 0):
        yield bound[lane * len(bound) // stage.units.lanes]


def _units(stage: Stage, ports: tuple[int, ...]) -> StageUnits:
    units = stage.units
    return StageUnits(
        name=stage.id,
        work=units.lanes,
        x_copies=units.x_copies,
        reducers=units.reducers,
        outputs=units.outputs,
        ports=ports,
    )


def _flows(
    block: Block,
    stages: Mapping[str, Stage],
    here: set[str],
    ports: Mapping[str, tuple[int, ...]],
    fabric: Fabric,
) -> Iterator[Flow]:
    """What the stages of a block hand on inside a section, to other sockets and to memory."""
    for buffer in block.buffers:
        for consumer in buffer.consumers:
            if buffer.producer in here and consumer in here and buffer.tier == "sram":
                rate = _rate(buffer.bytes, fabric)
                yield Flow(buffer.producer, consumer, rate, "activation")
    for number, stage in enumerate(stage for stage in block.stages if stage.id in here):
        if stage.collective is not None and fabric.sockets > 1:
            peer = f"peer.{number % len(fabric.ports)}"
            rate = _rate(stage.collective.bytes, fabric)
            yield Flow(stage.id, peer, rate, "peer")
            yield Flow(peer, stage.id, rate, "peer")
    written: dict[str, int] = {}
    for append in block.appends:
        written[append.stage] = written.get(append.stage, 0) + append.bytes
    for name, nbytes in written.items():
        if name in here:
            port = (ports[name] or (0,))[0]
            yield Flow(name, f"port.{port}", _rate(nbytes, fabric), "append")


def _rate(nbytes: int, fabric: Fabric) -> float:
    """Bytes a cycle of a vector on its way: as slow as it may, and never more than half of what a
    memory unit reads, so that two of them fit a link beside the stream of a memory port."""
    return float(max(1, min(fabric.pmu_bytes_per_cycle // 2, -(-nbytes // _HAND_ON_CYCLES))))
