"""One socket of a dataflow target as a planner sees it: units and links, in cycles and bytes.

A target file speaks SI; here a rate is bytes or multiply-adds a cycle and a latency is cycles, both
at the fabric's clock. `mesh.py` says where lanes, units and ports stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hetc.targets import Target
from hetc.targets.model import Device, Grid

# Formats for which a planner asks; a device that lacks one computes in the next wider one.
_PLANNED_DTYPES = ("bf16", "f32", "f8")


@dataclass(frozen=True)
class Tier:
    """A memory: capacity, and read rates in bytes a cycle, on paper and in a long read."""

    bytes: int
    peak_bytes_per_cycle: float
    # The peak times the target's `bandwidth_fraction`.
    bytes_per_cycle: float


@dataclass(frozen=True)
class PeerLink:
    """The link to a sibling socket: bytes a cycle in one direction, and its latency."""

    peak_bytes_per_cycle: float
    bytes_per_cycle: float
    latency_cycles: int


@dataclass(frozen=True)
class Fabric:
    """One socket: `columns` x `rows` switches, `lanes` lanes on `lanes_x` x `lanes_y` sites.

    A lane is a compute unit (PCU) and the memory unit (PMU) beside it, or one tile that is both.
    Rates are bytes a cycle of one unit, port or link direction; `macs_per_cycle` is the peak of one
    PCU by format. `ports` are the switches to which memory ports are attached.
    """

    name: str
    sockets: int
    clock_hz: float
    layout: str
    topology: str
    columns: int
    rows: int
    lanes_x: int
    lanes_y: int
    lanes: int
    pcu_lanes: int
    pcu_stages: int
    macs_per_cycle: Mapping[str, int]
    pmu_bytes: int
    pmu_banks: int
    pmu_bytes_per_cycle: int
    link_bytes_per_cycle: int
    scalar_link_bytes_per_cycle: int
    control_link_bits: int
    virtual_channels: int
    hop_cycles: int
    unit_latency_cycles: int
    ports: tuple[tuple[int, int], ...]
    port_bytes_per_cycle: int
    main_memory: str
    tiers: Mapping[str, Tier]
    memory_latency_cycles: int
    peer: PeerLink | None
    reconfigure_cycles: int

    def usable(self, x: int, y: int) -> bool:
        """Whether site (x, y) is on the grid and has a lane; units are taken to fill it by rows."""
        inside = 0 <= x < self.lanes_x and 0 <= y < self.lanes_y
        return inside and y * self.lanes_x + x < self.lanes


def fabric_of(target: Target) -> Fabric:
    """The fabric of one socket of `target`; a target without a grid is a `TargetError`."""
    device = target.device
    grid = target.grid
    clock = grid.clock_hz.value
    columns, rows = int(grid.columns.value), int(grid.rows.value)
    lanes_x = columns // 2 if grid.layout == "checkerboard" else columns
    units = min(int(grid.compute_units.value), int(grid.memory_units.value))
    return Fabric(
        name=device.name,
        sockets=target.count,
        clock_hz=clock,
        layout=grid.layout,
        topology=grid.topology,
        columns=columns,
        rows=rows,
        lanes_x=lanes_x,
        lanes_y=rows,
        lanes=min(units, lanes_x * rows),
        pcu_lanes=int(grid.compute_lanes.value),
        pcu_stages=int(grid.compute_stages.value),
        macs_per_cycle={
            dtype: round(device.rate(dtype).value / 2 / grid.compute_units.value / clock)
            for dtype in _PLANNED_DTYPES
        },
        pmu_bytes=int(grid.memory_unit_bytes.value),
        pmu_banks=int(grid.memory_banks.value),
        pmu_bytes_per_cycle=int(grid.memory_unit_bytes_per_cycle.value),
        link_bytes_per_cycle=int(grid.link_bytes_per_cycle.value),
        scalar_link_bytes_per_cycle=int(grid.scalar_link_bytes_per_cycle.value),
        control_link_bits=int(grid.control_link_bits.value),
        virtual_channels=int(grid.virtual_channels.value),
        hop_cycles=int(grid.hop_cycles.value),
        unit_latency_cycles=int(grid.unit_latency_cycles.value),
        ports=_port_switches(grid, columns, rows),
        port_bytes_per_cycle=int(grid.port_bytes_per_cycle.value),
        main_memory=device.main_memory,
        tiers=_tiers(device, clock),
        memory_latency_cycles=_cycles(grid.memory_latency_us.value, clock),
        peer=_peer(device, clock),
        reconfigure_cycles=_cycles(grid.reconfigure_us.value, clock),
    )


def _port_switches(grid: Grid, columns: int, rows: int) -> tuple[tuple[int, int], ...]:
    """Ports spread evenly over their edges, edge after edge, along each edge from low to high."""
    last_column, last_row = columns - 1, rows - 1
    edges = {
        "west": [[(0, y) for y in range(rows)]],
        "west-east": [[(x, y) for y in range(rows)] for x in (0, last_column)],
        "north-south": [[(x, y) for x in range(columns)] for y in (0, last_row)],
    }
    edges["all"] = edges["west-east"] + edges["north-south"]
    chosen = edges[grid.port_edges]
    ports = int(grid.memory_ports.value)
    found: list[tuple[int, int]] = []
    for number, edge in enumerate(chosen):
        here = (number + 1) * ports // len(chosen) - number * ports // len(chosen)
        found += [edge[(2 * index + 1) * len(edge) // (2 * here)] for index in range(here)]
    return tuple(found)


def _tiers(device: Device, clock: float) -> dict[str, Tier]:
    fraction = device.constant("bandwidth_fraction")
    return {
        memory.name: Tier(
            int(memory.bytes.value),
            memory.bandwidth.value / clock,
            memory.bandwidth.value / clock * fraction,
        )
        for memory in device.memories
    }


def _peer(device: Device, clock: float) -> PeerLink | None:
    link = device.links.get("peer")
    if link is None:
        return None
    return PeerLink(
        link.bandwidth.value / clock,
        link.sustained_bandwidth / clock,
        _cycles(link.latency_us.value, clock),
    )


def _cycles(microseconds: float, clock_hz: float) -> int:
    return round(microseconds * clock_hz / 1e6)
