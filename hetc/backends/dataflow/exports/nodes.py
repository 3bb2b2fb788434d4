"""The units of a section as nodes of a network, and what its nets move between them.

A *firing* of a unit is one iteration of its stage's block. A *token* is what a link of the net's
network carries in a cycle: vectors on the one, words of four bytes on the scalar one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from hetc.backends.dataflow.fabric import Fabric
from hetc.backends.dataflow.floorplan import section_nets
from hetc.backends.dataflow.mesh import Mesh, Switch, half_of, mesh_of, port_number, switch_of
from hetc.backends.dataflow.nets import SCALAR_BYTES, Net
from hetc.backends.dataflow.schema import Block, Plan, Route, Section, Stage
from hetc.errors import InputError

Kind = Literal["PCU", "PMU", "AG", "PEER"]

# The halves of its site that a unit takes, by the letter of its role.
_HALVES: Mapping[str, tuple[Literal["pcu", "pmu"], ...]] = {
    "w": ("pmu", "pcu"),
    "x": ("pmu",),
    "r": ("pcu",),
    "b": ("pmu",),
}


@dataclass(frozen=True)
class Node:
    """A compute unit, a memory unit, a memory port (AG), or a port to another socket."""

    name: str
    kind: Kind
    unit: str
    stage: str
    switch: Switch


@dataclass(frozen=True)
class Link:
    """A net between nodes. `out` are the tokens of each source in a firing, `into` of each sink;
    `hops` the links of its tree, 0 where it was not routed."""

    net: Net
    sources: tuple[str, ...]
    sinks: tuple[str, ...]
    out: int
    into: tuple[int, ...]
    hops: int


@dataclass(frozen=True)
class Wiring:
    """The nodes and links of one section of a plan."""

    plan: Plan
    section: Section
    fabric: Fabric

    @cached_property
    def nets(self) -> tuple[Net, ...]:
        return section_nets(self.plan, self.section, self.fabric)

    @cached_property
    def stages(self) -> Mapping[str, Stage]:
        here = set(self.section.stages)
        blocks = self.plan.blocks
        return {stage.id: stage for block in blocks for stage in block.stages if stage.id in here}

    @cached_property
    def block_of(self) -> Mapping[str, Block]:
        return {stage.id: block for block in self.plan.blocks for stage in block.stages}

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Units by stage, then the ports that a net meets."""
        ends = (end for net in self.nets for end in (*net.sources, *net.sinks))
        ports = sorted({end for end in ends if port_number(end) is not None}, key=_by_number)
        return (*self._units(), *map(self._port, ports))

    def _units(self) -> Iterator[Node]:
        for stage in self.stages.values():
            units = stage.units
            counts = {"w": units.lanes, "x": units.x_copies}
            counts |= {"r": units.reducers, "b": units.outputs}
            for role, count in counts.items():
                for number in range(count):
                    unit = f"{stage.id}.{role}{number}"
                    site = self.site(unit)
                    for half in _HALVES[role]:
                        kind: Kind = "PCU" if half == "pcu" else "PMU"
                        switch = switch_of(self.fabric, site, half)
                        yield Node(f"{unit}.{half}", kind, unit, stage.id, switch)

    def _port(self, end: str) -> Node:
        number = port_number(end)
        assert number is not None
        kind: Kind = "AG" if end.startswith("port.") else "PEER"
        return Node(end, kind, end, "", self.fabric.ports[number])

    def site(self, unit: str) -> tuple[int, int]:
        """The lane site of a unit; raises InputError HETC-L010 where it has none."""
        if unit not in self.section.sites:
            raise InputError(
                "HETC-L010",
                "a unit has no place",
                at=f"{unit} in section {self.section.id}",
                do="give it a site, or make the plan anew; hetc lint finds all of them",
            )
        return self.section.sites[unit]

    @cached_property
    def links(self) -> tuple[Link, ...]:
        mesh = mesh_of(self.fabric)
        routes = {route.net: route for route in self.section.routes}
        return tuple(self._link(net, routes.get(net.name), mesh) for net in self.nets)

    def _link(self, net: Net, route: Route | None, mesh: Mesh) -> Link:
        width = SCALAR_BYTES if net.network == "scalar" else self.fabric.link_bytes_per_cycle
        taken = [self._bytes(net, sink) for sink in net.sinks]
        # Every lane has data of its own from memory; any other net brings all sinks the same.
        given = sum(taken) if net.kind == "memory" else taken[0] / len(net.sources)
        return Link(
            net=net,
            sources=tuple(_node(unit, net.kind, entering=False) for unit in net.sources),
            sinks=tuple(_node(unit, net.kind, entering=True) for unit in net.sinks),
            out=math.ceil(given / width),
            into=tuple(math.ceil(nbytes / width) for nbytes in taken),
            hops=sum(len(mesh.links(path)) for path in route.paths) if route else 0,
        )

    def _bytes(self, net: Net, sink: str) -> float:
        """What `sink` takes of a net in a firing."""
        source = _owner(net.sources[0])
        if net.kind == "memory":
            stage = self.stages[_owner(sink)]
            streams = self.block_of[stage.id].streams
            own = (stream.bytes for stream in streams if stream.stage == stage.id)
            return sum(own) / stage.units.lanes
        if net.kind in ("operand", "broadcast"):
            every = (buffer for block in self.plan.blocks for buffer in block.buffers)
            return sum(buffer.bytes for buffer in every if source in buffer.consumers)
        if net.kind == "append":
            appends = self.block_of[source].appends
            return sum(append.bytes for append in appends if append.stage == source)
        if net.kind == "peer":
            ends = (_owner(end) for end in (*net.sources, sink))
            exchanges = (self.stages[end].collective for end in ends if end in self.stages)
            return sum(exchange.bytes for exchange in exchanges if exchange is not None)
        stage, buffers = self.stages[source], self.block_of[source].buffers
        made = max((buffer.bytes for buffer in buffers if buffer.producer == source), default=0)
        if net.kind == "gather":
            return made * self._share(stage, sink)
        exits = stage.units.outputs or stage.units.reducers or stage.units.lanes
        return made * len(net.sources) / exits

    @staticmethod
    def _share(stage: Stage, collector: str) -> float:
        """The part of a stage's result that one reducer or output gathers: a reducer adds up
        `split_k` parts of each number."""
        if collector.rpartition(".")[2].startswith("r"):
            return stage.split_k / stage.units.reducers
        return 1 / stage.units.outputs


def _owner(unit: str) -> str:
    """`b1.s3` of `b1.s3.w0`."""
    return unit.rpartition(".")[0]


def _node(unit: str, kind: str, *, entering: bool) -> str:
    """The node at which a net of `kind` enters or leaves a unit."""
    if port_number(unit) is not None:
        return unit
    return f"{unit}.{half_of(unit, entering=entering, kind=kind)}"


def _by_number(end: str) -> tuple[str, int]:
    name, _, number = end.partition(".")
    return name, int(number)
