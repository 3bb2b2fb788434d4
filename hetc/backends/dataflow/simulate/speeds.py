"""The numbers of a socket that time depends on and a plan does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hetc.targets import Target


@dataclass(frozen=True)
class MemorySpeed:
    """One tier of memory: peak bytes a cycle, the fraction that long reads reach, its latency."""

    bytes_per_cycle: float
    efficiency: float
    latency_cycles: float

    @property
    def sustained(self) -> float:
        """Bytes a cycle of a long read."""
        return self.bytes_per_cycle * self.efficiency


@dataclass(frozen=True)
class Speeds:
    """A socket in cycles of its fabric: memories by tier, and what one memory port (AGCU) carries.

    `main_memory` is the tier whose bandwidth MBU is a fraction of. `power_w` is None where the
    target file does not say it.
    """

    clock_hz: float
    main_memory: str
    memories: Mapping[str, MemorySpeed]
    port_bytes_per_cycle: float
    power_w: float | None = None

    def us(self, cycles: float) -> float:
        """Microseconds of so many cycles."""
        return cycles / self.clock_hz * 1e6


def speeds_of(target: Target) -> Speeds:
    """The speeds of one socket of `target`; TargetError HETC-T013 for a target without a grid.

    Every tier off the chip has the target's one `memory_latency_us`.
    """
    device = target.device
    grid = target.grid
    clock = grid.clock_hz.value
    tiers = {memory.name: memory for memory in device.memories if memory.name != "sram"}
    return Speeds(
        clock_hz=clock,
        main_memory=device.main_memory,
        memories={
            tier: MemorySpeed(
                bytes_per_cycle=memory.bandwidth.value / clock,
                efficiency=device.constant("bandwidth_fraction"),
                latency_cycles=grid.memory_latency_us.value * 1e-6 * clock,
            )
            for tier, memory in sorted(tiers.items())
        },
        port_bytes_per_cycle=grid.port_bytes_per_cycle.value,
        power_w=device.power_w.value if device.power_w is not None else None,
    )
