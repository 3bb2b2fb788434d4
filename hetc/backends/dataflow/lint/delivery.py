"""Whether the routes of a section bring everything from where it is to where it is read.

Nets are known by where their trees begin and end, not by their names: a tree out of one switch
serves the switches that it enters, a tree into one switch those that it leaves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import cached_property

from hetc.backends.dataflow.lint.facts import Facts
from hetc.backends.dataflow.lint.finding import Fault, Faults, number, rule
from hetc.backends.dataflow.lint.mesh import Switch
from hetc.backends.dataflow.lint.trees import Tree
from hetc.backends.dataflow.lint.units import unit_names
from hetc.backends.dataflow.schema import Section, Stage

# A unit, and the switches at which data may reach or leave it.
Unit = tuple[str, tuple[Switch, ...]]


class _Wiring:
    """The units of one section on the mesh, and the trees between them."""

    def __init__(self, facts: Facts, section: Section) -> None:
        self.facts = facts
        self.section = section

    @cached_property
    def _from(self) -> dict[Switch, list[Tree]]:
        found: dict[Switch, list[Tree]] = {}
        for tree in self.facts.trees[self.section.id]:
            if tree.source is not None:
                found.setdefault(tree.source, []).append(tree)
        return found

    @cached_property
    def _into(self) -> dict[Switch, list[Tree]]:
        found: dict[Switch, list[Tree]] = {}
        for tree in self.facts.trees[self.section.id]:
            if tree.sink is not None:
                found.setdefault(tree.sink, []).append(tree)
        return found

    def trees(self, source: Unit, sink: Unit) -> Iterator[Tree]:
        """The trees that bring data from one unit to another."""
        for start in source[1]:
            for end in sink[1]:
                yield from (tree for tree in self._from.get(start, ()) if end in tree.entered)
                yield from (tree for tree in self._into.get(end, ()) if start in tree.left)

    def joined(self, source: Unit, sink: Unit) -> bool:
        beside = not set(source[1]).isdisjoint(sink[1])
        return beside or any(True for _ in self.trees(source, sink))

    def units(self, stage: Stage, role: str) -> list[Unit]:
        """The placed units of one role; a work lane has the switches of both its halves."""
        mesh, sites = self.facts.mesh, self.section.sites
        found = []
        for name in unit_names(stage)[role]:
            if name in sites and mesh.has_site(sites[name]):
                both = mesh.memory_switch(sites[name]), mesh.compute_switch(sites[name])
                found.append((name, {"w": both, "r": both[1:]}.get(role, both[:1])))
        return found

    def entries(self, stage: Stage) -> list[Unit]:
        """Where input of a stage arrives: its copies, or its lanes, or its outputs."""
        return self.units(stage, "x") or self.units(stage, "w") or self.units(stage, "b")

    def exits(self, stage: Stage) -> list[Unit]:
        """Where results of a stage leave it: its outputs, or its reducers, or its lanes."""
        return self.units(stage, "b") or self.units(stage, "r") or self.units(stage, "w")

    def ports(self, numbers: Iterable[int]) -> list[Unit]:
        known = self.facts.mesh.ports
        return [(f"port {n}", (known[n],)) for n in numbers if n < len(known)]


@rule(
    "HETC-L244",
    "routes bring data from every unit that has it to every unit that reads it",
    "route a net between them",
)
def delivered(facts: Facts) -> Faults:
    count = 0
    for section in facts.plan.sections:
        wiring = _Wiring(facts, section)
        for what, sources, sinks in _needs(facts, section, wiring):
            count += 1
            for sink in sinks:
                if sources and not any(wiring.joined(source, sink) for source in sources):
                    text = f"no route brings {what} to {sink[0]}"
                    yield Fault(f"section {section.id}, {sink[0]}", text)
            for source in sources:
                if sinks and not any(wiring.joined(source, sink) for sink in sinks):
                    text = f"no route takes {what} from {source[0]}"
                    yield Fault(f"section {section.id}, {source[0]}", text)
    return f"{count} bundles of nets"


def _needs(
    facts: Facts, section: Section, wiring: _Wiring
) -> Iterator[tuple[str, list[Unit], list[Unit]]]:
    """(what, from, to): every unit of `to` gets it of one of `from`, which all give it to one."""
    own = dict.fromkeys(section.stages)
    for stage in map(facts.stages.__getitem__, own):
        yield from _inside(stage, wiring)
        for name in stage.streams:
            stream = facts.streams[name]
            if stream.tier != "sram":
                lanes = wiring.units(stage, "w") or wiring.entries(stage)
                yield f"the stream {name}", wiring.ports(stream.ports), lanes
    for block in facts.plan.blocks:
        for buffer in block.buffers:
            producer = facts.stages[buffer.producer]
            for consumer in map(facts.stages.__getitem__, buffer.consumers):
                if buffer.tier == "sram" and {producer.id, consumer.id} <= own.keys():
                    exits, entries = wiring.exits(producer), wiring.entries(consumer)
                    # Every copy of an input is whole; lanes may have a part of it each.
                    parts = [[exit] for exit in exits] if consumer.units.x_copies else [exits]
                    for sources in parts:
                        yield f"the buffer {buffer.id}", sources, entries


def _inside(stage: Stage, wiring: _Wiring) -> Iterator[tuple[str, list[Unit], list[Unit]]]:
    lanes, copies = wiring.units(stage, "w"), wiring.units(stage, "x")
    reducers, outputs = wiring.units(stage, "r"), wiring.units(stage, "b")
    if copies:
        yield f"the input of {stage.id}", copies, lanes
    if reducers:
        yield f"the partial sums of {stage.id}", lanes, reducers
    if outputs and (reducers or lanes):
        yield f"the results of {stage.id}", reducers or lanes, outputs


@rule(
    "HETC-L245",
    "routes lead to and from memory and the other sockets where stages need them",
    "route a net between a unit of the stage and a memory port",
)
def outside(facts: Facts) -> Faults:
    count = 0
    for section in facts.plan.sections:
        wiring = _Wiring(facts, section)
        own = dict.fromkeys(section.stages)
        ports = wiring.ports(range(facts.capacity.ports))
        for stage in map(facts.stages.__getitem__, own):
            units = [unit for role in "wxrb" for unit in wiring.units(stage, role)]
            writes = [a.tensor for a in facts.block_of[stage.id].appends if a.stage == stage.id]
            leaving = [f"new rows of {tensor}" for tensor in writes]
            if stage.collective is not None:
                leaving.append("its part")
                count += 1
                if not _any_joined(wiring, ports, units):
                    text = f"no route brings stage {stage.id} the parts of the other sockets"
                    yield Fault(f"section {section.id}, {stage.id}", text)
                # The part may leave from the stage that made it.
                before = (facts.stages[d.stage] for d in stage.depends if d.stage in own)
                units = units + [unit for other in before for unit in wiring.exits(other)]
            for what in leaving:
                count += 1
                if not _any_joined(wiring, units, ports):
                    text = f"no route takes {what} from stage {stage.id} to a memory port"
                    yield Fault(f"section {section.id}, {stage.id}", text)
    return f"{count} ways in and out"


def _any_joined(wiring: _Wiring, sources: list[Unit], sinks: list[Unit]) -> bool:
    return any(True for a in sources for b in sinks for _ in wiring.trees(a, b))


@rule(
    "HETC-L246",
    "nets from memory carry what the lanes take",
    "state the rate of the memory port as the demand of its net",
)
def stream_demand(facts: Facts) -> Faults:
    width = facts.grid.port_bytes_per_cycle.value
    count = 0
    for section in facts.plan.sections:
        wiring = _Wiring(facts, section)
        for route in section.routes:
            count += 1
            if not (route.bytes_per_cycle > 0 and math.isfinite(route.bytes_per_cycle)):
                text = f"net {route.net} carries {route.bytes_per_cycle} bytes a cycle"
                yield Fault(f"net {route.net}", text)
        for stage in map(facts.stages.__getitem__, dict.fromkeys(section.stages)):
            lanes = wiring.units(stage, "w")
            for stream in map(facts.streams.__getitem__, stage.streams):
                if stream.tier == "sram" or not lanes:
                    continue
                ports = wiring.ports(dict.fromkeys(stream.ports))
                found = sum(_demand(wiring, port, lanes) for port in ports)
                given = min(len(ports) * width, facts.bytes_per_cycle(stream.tier))
                wanted = min(stage.rate_bytes_per_cycle, given)
                # Demands are whole bytes.
                if 0 < found < wanted - len(ports):
                    text = f"the nets of stream {stream.id} carry {number(found)} bytes a cycle"
                    text += f", its lanes take {number(wanted)}"
                    yield Fault(f"stream {stream.id}", text, found, wanted)
    return f"{count} nets"


def _demand(wiring: _Wiring, port: Unit, lanes: list[Unit]) -> float:
    trees = {id(tree): tree for lane in lanes for tree in wiring.trees(port, lane)}
    return max((tree.route.bytes_per_cycle for tree in trees.values()), default=0)
