"""The units of stages, and the nets between them: hierarchical, so that they stay few and local.

A stage that reads weights has one tree per memory port into its lanes' PMUs, its input copied to
one PMU per region of lanes and handed from there to the region's PCUs as scalars (the axpy form),
and its results gathered into reducers and output buffers. Multicast inside the network is a fact of
RDU-like machines (SN40L paper, arXiv 2405.07518, section IV-C).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hetc.backends.dataflow.fabric import Fabric
from hetc.backends.dataflow.mesh import port_number
from hetc.errors import PlanError

Network = Literal["vector", "scalar"]

# Lanes that share one copy of a stage's input.
REGION_LANES = 16
# One f32 a cycle: what an axpy takes of its input vector.
SCALAR_BYTES = 4

# Virtual channel of each kind of net. An experiment on Llama-3.1-8B and 70B found free routes to be
# deadlock-free in these four classes for every placement by lanes; `route.py` checks it.
VC_CLASSES = {
    "memory": 0,
    "gather": 1,
    "peer": 1,
    "append": 1,
    "broadcast": 2,
    "operand": 2,
    "activation": 3,
}
FLOW_KINDS = ("activation", "peer", "append")


@dataclass(frozen=True)
class StageUnits:
    """What one stage occupies; `mesh.py` has the names of its units.

    `work` lanes (PCU and PMU each), `x_copies` of the input (PMUs, one per region of lanes),
    `reducers` that add up a split K (PCUs), `outputs` (PMUs that buffer results). `ports[i]` is the
    memory port that streams into work lane i; empty where nothing comes from memory.
    """

    name: str
    work: int
    x_copies: int = 0
    reducers: int = 0
    outputs: int = 0
    ports: tuple[int, ...] = ()

    def units(self, role: str) -> list[str]:
        """The names of all units of a role: w, x, r or b."""
        count = {"w": self.work, "x": self.x_copies, "r": self.reducers, "b": self.outputs}[role]
        return [f"{self.name}.{role}{number}" for number in range(count)]

    def entries(self) -> list[str]:
        """Where data from other stages arrives."""
        return self.units("x")[:1] or self.units("w") or self.units("b") or self.units("r")

    def exits(self) -> list[str]:
        """Where data for other stages comes from."""
        return self.units("b") or self.units("r") or self.units("w") or self.units("x")


@dataclass(frozen=True)
class Flow:
    """Data between two stages, or between a stage and a memory or peer port (`port.5`, `peer.5`).

    `kind` is `activation`, `peer` (to and from another socket) or `append` (a new row of the KV
    cache, written to memory).
    """

    source_stage: str
    sink_stage: str
    bytes_per_cycle: float
    kind: str = "activation"


@dataclass(frozen=True)
class Net:
    """One tree to route: one source and many sinks, or many sources and one sink.

    `bytes_per_cycle` is the demand on every link of the tree, in whole bytes.
    """

    name: str
    kind: str
    network: Network
    vc: int
    bytes_per_cycle: int
    sources: tuple[str, ...]
    sinks: tuple[str, ...]


def chunk(total: int, parts: int, part: int) -> range:
    """Which of `total` things belong to one of `parts` nearly equal runs; never none of them."""
    low = part * total // parts
    return range(low, max((part + 1) * total // parts, low + 1))


def build_nets(
    fabric: Fabric, stages: Sequence[StageUnits], flows: Sequence[Flow]
) -> tuple[Net, ...]:
    """All nets of a section, in the order of ports, stages and flows.

    Raises `PlanError` for a stage or flow that contradicts itself or names what does not exist.
    """
    known = {stage.name: stage for stage in stages}
    if len(known) != len(stages):
        names = [stage.name for stage in stages]
        twice = next(name for name in names if names.count(name) > 1)
        raise PlanError("HETC-D101", "two stages have one name", at=twice)
    for stage in stages:
        _check_stage(fabric, stage)
    for flow in flows:
        _check_flow(fabric, known, flow)
    builder = _Builder(fabric)
    nets = [
        *builder.memory_trees(stages),
        *(net for stage in stages for net in builder.inside(stage, flows)),
        *(net for flow in flows for net in builder.between(known, flow)),
    ]
    return tuple(nets)


@dataclass(frozen=True)
class _Builder:
    fabric: Fabric

    def memory_trees(self, stages: Sequence[StageUnits]) -> Iterator[Net]:
        """One tree a port into every lane it feeds: a port serves one stage at a time."""
        fed: dict[int, list[str]] = {}
        for stage in stages:
            for unit, port in zip(stage.units("w"), stage.ports, strict=False):
                fed.setdefault(port, []).append(unit)
        for port in sorted(fed):
            rate = self.fabric.port_bytes_per_cycle
            yield self._net(f"memory.{port}", "memory", rate, [f"port.{port}"], fed[port])

    def inside(self, stage: StageUnits, flows: Sequence[Flow]) -> Iterator[Net]:
        """Input to copies, copies to lanes, lanes to reducers, and results to output buffers."""
        rate_in = max((f.bytes_per_cycle for f in flows if f.sink_stage == stage.name), default=1)
        rate_out = max(
            (f.bytes_per_cycle for f in flows if f.source_stage == stage.name), default=1
        )
        work, copies = stage.units("w"), stage.units("x")
        if len(copies) > 1:
            name = f"{stage.name}.broadcast"
            yield self._net(name, "broadcast", rate_in, copies[:1], copies[1:])
        for number, copy in enumerate(copies):
            lanes = [work[i] for i in chunk(stage.work, stage.x_copies, number)]
            yield self._net(f"{copy}.operand", "operand", SCALAR_BYTES, [copy], lanes)
        producers = work
        for role in ("r", "b"):
            collectors = stage.units(role)
            for number, collector in enumerate(collectors if producers else ()):
                part = chunk(len(producers), len(collectors), number)
                gathered = [producers[i] for i in part]
                share = rate_out / len(collectors)
                yield self._net(f"{collector}.gather", "gather", share, gathered, [collector])
            producers = collectors or producers

    def between(self, known: Mapping[str, StageUnits], flow: Flow) -> Iterator[Net]:
        """A flow as one tree, or as one tree a source where both ends are many units."""
        source, sink = known.get(flow.source_stage), known.get(flow.sink_stage)
        sources = source.exits() if source else [flow.source_stage]
        sinks = sink.entries() if sink else [flow.sink_stage]
        name = f"{flow.source_stage}>{flow.sink_stage}.{flow.kind}"
        if len(sources) == 1 or len(sinks) == 1:
            yield self._net(name, flow.kind, flow.bytes_per_cycle, sources, sinks)
            return
        for number, unit in enumerate(sources):
            share = flow.bytes_per_cycle / len(sources)
            yield self._net(f"{name}.{number}", flow.kind, share, [unit], sinks)

    def _net(
        self, name: str, kind: str, rate: float, sources: Sequence[str], sinks: Sequence[str]
    ) -> Net:
        scalar = kind == "operand" and self.fabric.scalar_link_bytes_per_cycle > 0
        channel = 0 if scalar else min(VC_CLASSES[kind], self.fabric.virtual_channels - 1)
        network: Network = "scalar" if scalar else "vector"
        return Net(name, kind, network, channel, math.ceil(rate), tuple(sources), tuple(sinks))


def _check_stage(fabric: Fabric, stage: StageUnits) -> None:
    counts = (stage.work, stage.x_copies, stage.reducers, stage.outputs)
    if min(counts) < 0 or max(counts) == 0 or (stage.x_copies > 0 and stage.work == 0):
        raise PlanError(
            "HETC-D102",
            "a stage has at least one unit, and copies its input for lanes only",
            at=stage.name,
            found=f"work, x_copies, reducers, outputs = {counts}",
        )
    if stage.ports and len(stage.ports) != stage.work:
        raise PlanError(
            "HETC-D102",
            "a stage that reads memory names the port of every work lane",
            at=stage.name,
            expected=f"{stage.work} ports",
            found=len(stage.ports),
        )
    unknown = [port for port in stage.ports if not 0 <= port < len(fabric.ports)]
    if unknown:
        raise _no_such_port(fabric, stage.name, unknown[0])


def _check_flow(fabric: Fabric, known: Mapping[str, StageUnits], flow: Flow) -> None:
    at = f"{flow.source_stage} to {flow.sink_stage}"
    if flow.kind not in FLOW_KINDS or flow.bytes_per_cycle <= 0:
        raise PlanError(
            "HETC-D103",
            "a flow has a kind and a rate above 0",
            at=at,
            expected=", ".join(FLOW_KINDS),
            found=f"{flow.kind}, {flow.bytes_per_cycle} B/cycle",
        )
    for end in (flow.source_stage, flow.sink_stage):
        port = port_number(end)
        if port is not None and port >= len(fabric.ports):
            raise _no_such_port(fabric, at, port)
        if port is None and end not in known:
            raise PlanError(
                "HETC-D103",
                "a flow joins stages and ports",
                at=at,
                expected=", ".join([*known, "port.N", "peer.N"]),
                found=end,
            )


def _no_such_port(fabric: Fabric, at: str, port: int) -> PlanError:
    return PlanError(
        "HETC-D104",
        "the fabric has no such memory port",
        at=at,
        expected=f"0 to {len(fabric.ports) - 1}",
        found=port,
    )
