"""Whether the routes of a section bring everything from where it is to where it is read.

What a net is for is in its name (docs/plan-format.md), `KEY.kind`, perhaps with a number behind:

memory.5               from port 5 into the PMUs of the lanes that it feeds
stage.broadcast        from the first copy of the input to the others
stage.x0.operand       from a copy of the input to the PCUs of lanes
stage.r0.gather        from the PCUs of lanes to a reducer; also to an output, `stage.b0`
one>other.activation   from where results leave a stage to where another one takes them in
stage>port.5.append    new rows of a state, to a memory port
stage>peer.5.peer      between a stage and a port that talks to other sockets; also `peer.5>stage`

Whether it gets there is read off its tree: one out of a switch serves the switches that it enters,
one into a switch those that it leaves. What stands on one switch needs no net.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from hetc.backends.dataflow.lint.facts import Facts
from hetc.backends.dataflow.lint.finding import Fault, Faults, number, rule
from hetc.backends.dataflow.lint.mesh import Switch
from hetc.backends.dataflow.lint.trees import Tree
from hetc.backends.dataflow.lint.units import unit_names
from hetc.backends.dataflow.schema import Route, Section, Stage

# The name of a unit or port, and the switch at which a net meets it.
End = tuple[str, Switch]


@dataclass(frozen=True)
class Need:
    """Every one of `sinks` gets something of one of `sources`, which all give it to one."""

    kind: str
    what: str
    sources: list[End]
    sinks: list[End]

    def keys(self) -> set[str]:
        """What the names of the nets begin with that may serve it."""
        if self.kind == "memory":
            return {name.replace("port", "memory") for name, _ in self.sources}
        if self.kind == "broadcast":
            return {_owner(name) for name, _ in self.sources}
        if self.kind in ("operand", "gather"):
            return {name for name, _ in (self.sources if self.kind == "operand" else self.sinks)}
        ends = {_owner(name) for name, _ in self.sinks}
        return {f"{start}>{end}" for start in map(_owner, _names(self.sources)) for end in ends}


def _names(ends: Iterable[End]) -> Iterator[str]:
    return (name for name, _ in ends)


def _owner(end: str) -> str:
    return end if end.startswith(("port.", "peer.")) else end.rpartition(".")[0]


class _Wiring:
    """The units of one section on the mesh, and the trees between them."""

    def __init__(self, facts: Facts, section: Section) -> None:
        self.facts = facts
        self.section = section

    @cached_property
    def _nets(self) -> dict[tuple[str, str], list[Tree]]:
        """(kind, key) -> the trees."""
        found: dict[tuple[str, str], list[Tree]] = {}
        for tree in self.facts.trees[self.section.id]:
            kind, net = tree.route.kind, tree.route.net
            key = net if kind == "memory" else net.partition(f".{kind}")[0]
            found.setdefault((kind, key), []).append(tree)
        return found

    def serving(self, need: Need) -> Iterator[tuple[Tree, set[Switch], set[Switch]]]:
        """The trees that serve a need, each with the sources and the sinks that it joins."""
        sources = {switch for _, switch in need.sources}
        sinks = {switch for _, switch in need.sinks}
        for key in sorted(need.keys()):
            for tree in self._nets.get((need.kind, key), ()):
                if tree.source in sources and (gets := sinks & tree.entered):
                    yield tree, sources & {tree.source}, gets
                elif tree.sink in sinks and (gives := sources & tree.left):
                    yield tree, gives, sinks & {tree.sink}

    def served(self, need: Need) -> tuple[set[Switch], set[Switch]]:
        """The switches of sources that give to a sink, and of sinks that get from a source."""
        gives = {switch for _, switch in need.sources} & {switch for _, switch in need.sinks}
        gets = set(gives)
        for _, sources, sinks in self.serving(need):
            gives |= sources
            gets |= sinks
        return gives, gets

    def units(self, stage: Stage, role: str, *, half: str = "") -> list[End]:
        """The placed units of one role; of a work lane the `half` that takes part, PMU or PCU."""
        mesh, sites = self.facts.mesh, self.section.sites
        compute = role == "r" or half == "PCU"
        switch = mesh.compute_switch if compute else mesh.memory_switch
        placed = [name for name in unit_names(stage)[role] if name in sites]
        return [(name, switch(sites[name])) for name in placed if mesh.has_site(sites[name])]

    def entries(self, stage: Stage) -> list[End]:
        """Where input of a stage arrives: its first copy, or its lanes, or its outputs."""
        return self.units(stage, "x")[:1] or self.units(stage, "w") or self.units(stage, "b")

    def exits(self, stage: Stage) -> list[End]:
        """Where results of a stage leave it: its outputs, or its reducers, or its lanes."""
        lanes = self.units(stage, "w", half="PCU")
        return self.units(stage, "b") or self.units(stage, "r") or lanes

    def ends(self, name: str, of_stage: Callable[[Stage], list[End]]) -> list[End]:
        """A port by its name, or the exits or entries of a stage."""
        kind, _, digits = name.partition(".")
        if kind in ("port", "peer") and digits.isdecimal():
            return self.ports([int(digits)], kind)
        stage = self.facts.stages.get(name)
        return of_stage(stage) if stage is not None else []

    def ports(self, numbers: Iterable[int], name: str = "port") -> list[End]:
        known = self.facts.mesh.ports
        return [(f"{name}.{n}", known[n]) for n in numbers if n < len(known)]


@rule(
    "HETC-L244",
    "routes bring data from every unit that has it to every unit that reads it",
    "route a net between them",
)
def delivered(facts: Facts) -> Faults:
    count = 0
    for section in facts.plan.sections:
        wiring = _Wiring(facts, section)
        for need in _needs(facts, section, wiring):
            if not need.sources or not need.sinks:
                continue
            count += 1
            gives, gets = wiring.served(need)
            unfed = [name for name, switch in need.sinks if switch not in gets]
            idle = [name for name, switch in need.sources if switch not in gives]
            if unfed:
                text = f"no {need.kind} net brings {need.what} to {_listed(unfed)}"
                yield Fault(f"section {section.id}, {unfed[0]}", text)
            elif idle:
                text = f"no {need.kind} net takes {need.what} from {_listed(idle)}"
                yield Fault(f"section {section.id}, {idle[0]}", text)
    return f"{count} bundles of nets"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" * (len(names) > 3)
    return ", ".join(names[:3]) + more


def _needs(facts: Facts, section: Section, wiring: _Wiring) -> Iterator[Need]:
    own = dict.fromkeys(section.stages)
    for stage in map(facts.stages.__getitem__, own):
        yield from _inside(stage, wiring)
        for name in stage.streams:
            stream = facts.streams[name]
            if stream.tier != "sram":
                sinks = wiring.units(stage, "w") or wiring.entries(stage)
                yield Need("memory", f"the stream {name}", wiring.ports(stream.ports), sinks)
    for block in facts.plan.blocks:
        for buffer in block.buffers:
            producer = facts.stages[buffer.producer]
            for consumer in map(facts.stages.__getitem__, buffer.consumers):
                if buffer.tier == "sram" and {producer.id, consumer.id} <= own.keys():
                    exits, entries = wiring.exits(producer), wiring.entries(consumer)
                    # Every exit has a part of it, and every entry takes the whole.
                    for end in exits:
                        yield Need("activation", f"the buffer {buffer.id}", [end], entries)


def _inside(stage: Stage, wiring: _Wiring) -> Iterator[Need]:
    lanes = wiring.units(stage, "w", half="PCU")
    copies, reducers = wiring.units(stage, "x"), wiring.units(stage, "r")
    yield Need("broadcast", f"the input of {stage.id}", copies[:1], copies[1:])
    yield Need("operand", f"the input of {stage.id}", copies, lanes)
    yield Need("gather", f"the sums of {stage.id}", lanes, reducers)
    yield Need("gather", f"the results of {stage.id}", reducers or lanes, wiring.units(stage, "b"))


@rule(
    "HETC-L245",
    "routes lead to memory and to and from the other sockets where stages need them",
    "route a net between a unit of the stage and a memory port",
)
def outside(facts: Facts) -> Faults:
    count = 0
    for section in facts.plan.sections:
        wiring = _Wiring(facts, section)
        for stage in map(facts.stages.__getitem__, dict.fromkeys(section.stages)):
            for ways in _ways_out(facts, section, stage, wiring):
                count += 1
                lacks = [[n for n in way if not wiring.served(n)[0]] for way in ways]
                least = min(lacks, key=len, default=[])
                for need in least:
                    text = f"no {need.kind} net {need.what}"
                    yield Fault(f"section {section.id}, {stage.id}", text)
    return f"{count} ways in and out"


def _ways_out(
    facts: Facts, section: Section, stage: Stage, wiring: _Wiring
) -> Iterator[list[tuple[Need, ...]]]:
    """Ways of which one must be there, with all that it needs: each is by one memory port."""
    every = range(facts.capacity.ports)
    exits = wiring.exits(stage)
    for append in facts.block_of[stage.id].appends:
        if append.stage == stage.id:
            what = f"takes new rows of {append.tensor} from {stage.id} to a memory port"
            yield [(Need("append", what, exits, [port]),) for port in wiring.ports(every)]
    if stage.collective is not None:
        # The part that goes out may leave from the stage that made it.
        own = dict.fromkeys(section.stages)
        before = (facts.stages[d.stage] for d in stage.depends if d.stage in own)
        leaving = exits + [end for other in before for end in wiring.exits(other)]
        sends = f"takes the part of {stage.id} to other sockets"
        takes = f"brings {stage.id} the parts of other sockets"
        yield [
            (
                Need("peer", sends, leaving, [peer]),
                Need("peer", takes, [peer], wiring.entries(stage)),
            )
            for peer in wiring.ports(every, "peer")
        ]


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
                ports = dict.fromkeys(stream.ports)
                nets = {f"memory.{port}" for port in ports}
                found = sum(r.bytes_per_cycle for r in section.routes if r.net in nets)
                given = min(len(ports) * width, facts.bytes_per_cycle(stream.tier))
                wanted = min(stage.rate_bytes_per_cycle, given)
                # Demands are whole bytes.
                if found < wanted - len(ports):
                    text = f"the nets of stream {stream.id} carry {number(found)} bytes a cycle"
                    text += f", its lanes take {number(wanted)}"
                    yield Fault(f"stream {stream.id}", text, found, wanted)
    return f"{count} nets"


@rule(
    "HETC-L247",
    "nets lead from and to what their names say",
    "route the net between the units and ports of its name",
)
def named(facts: Facts) -> Faults:
    count = 0
    for section in facts.plan.sections:
        wiring = _Wiring(facts, section)
        for route, need in _between(facts, section, wiring):
            count += 1
            if not any(tree.route is route for tree, _, _ in wiring.serving(need)):
                yield Fault(f"net {route.net}", f"the net {route.net} does not lead {need.what}")
    return f"{count} nets between stages and ports"


def _between(facts: Facts, section: Section, wiring: _Wiring) -> Iterator[tuple[Route, Need]]:
    """Nets between two stages or a stage and a port, with what their names promise."""
    for route in section.routes:
        start, arrow, end = route.net.partition(f".{route.kind}")[0].partition(">")
        if arrow and route.paths:
            sources, sinks = wiring.ends(start, wiring.exits), wiring.ends(end, wiring.entries)
            yield route, Need(route.kind, f"from {start} to {end}", sources, sinks)
