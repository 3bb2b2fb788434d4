"""The one function that says whether stages fit a socket; planner, placer and linter share it.

`demand_of` looks at a stage once; demands add up, and `fit` compares a few numbers, so that a
search over sections can call it at every step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add

from hetc.backends.dataflow.fabric import Fabric
from hetc.backends.dataflow.schema import Buffer, Stage, Stream
from hetc.targets.model import Grid

# The part of a memory unit that holds no tensor: packet headers, and rows rounded up to its banks.
RESERVED_FRACTION = 1 / 32
# Lanes that share one copy of their input, in a region of the grid.
LANES_A_COPY = 16

LEVERS = {
    "compute units": "give stages fewer lanes or reducers, or split the section",
    "memory units": "give stages fewer lanes, input copies or output units, or split the section",
    "SRAM": "lower depth_bytes, or split the section",
    "memory unit": "lower depth_bytes of its streams and buffers, or give the stage more units",
    "memory ports": "bind the streams to fewer ports",
}


@dataclass(frozen=True)
class Capacity:
    """What a socket has. Bytes are those that tensors may use: without the reserve of each unit."""

    pcus: int
    pmus: int
    pmu_bytes: int
    ports: int

    @property
    def sram_bytes(self) -> int:
        return self.pmus * self.pmu_bytes


def capacity_of(grid: Grid) -> Capacity:
    """The units, bytes and ports of one device."""
    return Capacity(
        pcus=int(grid.compute_units.value),
        pmus=int(grid.memory_units.value),
        pmu_bytes=int(grid.memory_unit_bytes.value * (1 - RESERVED_FRACTION)),
        ports=int(grid.memory_ports.value),
    )


def usable_bytes(fabric: Fabric) -> int:
    """What streams may take of one memory unit."""
    return int(fabric.pmu_bytes * (1 - RESERVED_FRACTION))


def lanes_to_hold(nbytes: int, fabric: Fabric) -> int:
    """Lanes whose memory units hold so many bytes in whole tiles."""
    return -(-nbytes // usable_bytes(fabric)) + 1


@dataclass(frozen=True)
class Demand:
    """What one stage, or the stages of a section together, take of a socket.

    `pmu_bytes` is the share of the fullest memory unit, which belongs to the stage `fullest`. Ports
    are shared: streams take turns on them.
    """

    pcus: int = 0
    pmus: int = 0
    sram_bytes: int = 0
    pmu_bytes: int = 0
    fullest: str = ""
    ports: frozenset[int] = frozenset()

    def __add__(self, other: Demand) -> Demand:
        fuller = self if self.pmu_bytes >= other.pmu_bytes else other
        return Demand(
            self.pcus + other.pcus,
            self.pmus + other.pmus,
            self.sram_bytes + other.sram_bytes,
            fuller.pmu_bytes,
            fuller.fullest,
            self.ports | other.ports,
        )


@dataclass(frozen=True)
class Shortfall:
    """A resource of which `demand` is needed and `bound` is there; `place` is a stage, or empty."""

    resource: str
    place: str
    demand: int
    bound: int

    @property
    def shortfall(self) -> int:
        return self.demand - self.bound

    @property
    def lever(self) -> str:
        return LEVERS[self.resource]


def demand_of(stage: Stage, streams: Iterable[Stream], buffers: Iterable[Buffer]) -> Demand:
    """What `stage` takes, given the streams of its block and all buffers of the plan.

    Credits of its streams lie in the memory units of its lanes, evenly; what it makes lies in its
    output units, or with its lanes where it has none. Each region of lanes has a copy of what one
    iteration brings, in one or more of the input units.
    """
    own = [stream for stream in streams if stream.stage == stage.id]
    credits = sum(stream.depth_bytes for stream in own)
    made = copied = 0
    for buffer in buffers:
        if buffer.tier != "sram":
            continue
        if buffer.producer == stage.id:
            made += buffer.depth_bytes
        if stage.id in buffer.consumers and stage.units.x_copies:
            copied += min(buffer.bytes, buffer.depth_bytes)
    units = stage.units
    # Lanes that split rows hold those of their part only.
    regions = math.ceil(math.ceil(units.lanes / LANES_A_COPY) / stage.split_rows)
    copies = _share(copied * regions, units.x_copies) if units.x_copies else 0
    if units.outputs:
        shares = [_share(credits, units.lanes), _share(made, units.outputs), copies]
    else:
        shares = [_share(credits + made, units.lanes), copies]
    return Demand(
        pcus=units.pcus,
        pmus=units.pmus,
        sram_bytes=credits + made + (copied * regions if units.x_copies else 0),
        pmu_bytes=max(shares),
        fullest=stage.id,
        ports=frozenset(port for stream in own for port in stream.ports),
    )


def _share(nbytes: int, units: int) -> int:
    # Without a unit all of it has no place: as one unit's share it shows up as a shortfall.
    return math.ceil(nbytes / units) if units else nbytes


def total(demands: Iterable[Demand]) -> Demand:
    """What stages take together."""
    return reduce(add, demands, Demand())


def fit(demand: Demand, capacity: Capacity) -> tuple[Shortfall, ...]:
    """What a socket lacks to hold `demand`; empty where it fits."""
    compared = (
        ("compute units", "", demand.pcus, capacity.pcus),
        ("memory units", "", demand.pmus, capacity.pmus),
        ("SRAM", "", demand.sram_bytes, capacity.sram_bytes),
        ("memory unit", demand.fullest, demand.pmu_bytes, capacity.pmu_bytes),
        ("memory ports", "", len(demand.ports), capacity.ports),
    )
    return tuple(Shortfall(*line) for line in compared if line[2] > line[3])
