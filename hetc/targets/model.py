"""What hetc knows of hardware: quantities with their sources, memories, links and devices.

Frozen data only; `files.py` reads it from TOML, `host.py` measures it. All numbers are SI: bytes,
B/s, FLOP/s, W, Hz, and microseconds where a name ends in `_us`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from hetc.errors import TargetError
from hetc.targets.dtypes import widening

Kind = Literal["gpu", "dataflow", "cpu"]
Section = Literal["op", "layer", "step"]


@dataclass(frozen=True)
class Quantity:
    """A number, its SI unit, and its grounds: a source, or an assumption's range and reason."""

    value: float
    unit: str
    source: str = ""
    range: tuple[float, float] | None = None
    why: str = ""

    @property
    def assumed(self) -> bool:
        """True where nobody published or measured the number."""
        return not self.source


@dataclass(frozen=True)
class Assumption(Quantity):
    """A constant of the cost model that no data sheet gives; always with a range and a reason.

    `name` is a key of `hetc.targets.schema.CONSTANT_UNITS`.
    """

    name: str = ""


@dataclass(frozen=True)
class Calibration:
    """Constants fitted to what one framework measured on the device; `rows` says on which rows."""

    framework: str
    rows: str
    constants: Mapping[str, Assumption]


@dataclass(frozen=True)
class Memory:
    """One tier of memory: capacity in bytes and peak read bandwidth in B/s, both for one device."""

    name: str
    bytes: Quantity
    bandwidth: Quantity


@dataclass(frozen=True)
class Link:
    """A connection of two devices: peak B/s one way, the fraction reached, latency in us."""

    name: str
    title: str
    bandwidth: Quantity
    fraction: Quantity
    latency_us: Quantity

    def seconds(self, nbytes: float) -> float:
        """Time for one transfer of `nbytes` in one direction."""
        return self.latency_us.value * 1e-6 + nbytes / self.sustained_bandwidth

    @property
    def sustained_bandwidth(self) -> float:
        """B/s in one direction that a large transfer reaches."""
        return self.bandwidth.value * self.fraction.value


@dataclass(frozen=True)
class Grid:
    """The fabric of a dataflow device: units on a 2-D mesh, and ports to the memory outside.

    `layout` is `checkerboard` (compute and memory units alternate) or `tiles` (every unit holds
    both); `topology` is `mesh` or `torus` (rows and columns are closed to rings); `port_edges`
    names the edges along which the memory ports stand. Link figures are of one direction;
    `memory_unit_bytes_per_cycle` is what a unit reads while it writes as much. Where a scalar or
    control link is 0 wide, there is no such network and its traffic takes the vector links.
    """

    layout: str
    topology: str
    port_edges: str
    rows: Quantity
    columns: Quantity
    compute_units: Quantity
    compute_lanes: Quantity
    compute_stages: Quantity
    memory_units: Quantity
    memory_unit_bytes: Quantity
    memory_banks: Quantity
    memory_unit_bytes_per_cycle: Quantity
    clock_hz: Quantity
    link_bytes_per_cycle: Quantity
    scalar_link_bytes_per_cycle: Quantity
    control_link_bits: Quantity
    virtual_channels: Quantity
    hop_cycles: Quantity
    unit_latency_cycles: Quantity
    memory_ports: Quantity
    port_bytes_per_cycle: Quantity
    memory_latency_us: Quantity
    reconfigure_us: Quantity


@dataclass(frozen=True)
class Device:
    """One chip, or the host's CPUs: memories (nearest first), dense peak rates, links, constants.

    `main_memory` names the tier that holds weights and state; `rates` maps a dtype to dense FLOP/s.
    `section` is what one call of a dataflow section runs: an op, a layer, or a whole step (kernel
    looping). `calibrated` names the framework whose calibration `constants` carry, if any.
    """

    name: str
    title: str
    kind: Kind
    main_memory: str
    memories: tuple[Memory, ...]
    rates: Mapping[str, Quantity]
    constants: Mapping[str, Assumption]
    links: Mapping[str, Link]
    arch: str = ""
    features: tuple[str, ...] = ()
    units: Quantity | None = None
    power_w: Quantity | None = None
    grid: Grid | None = None
    section: Section = "step"
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    calibrated: str = ""

    def __hash__(self) -> int:
        return hash(self.sha256)

    @cached_property
    def sha256(self) -> str:
        """Digest of everything in `as_json`, the same on every machine."""
        text = json.dumps(self.as_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """The device as plain values; memories stay a list because their order has a meaning."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    def memory(self, tier: str | None = None) -> Memory:
        """The tier by name, the main memory by default; an unknown tier is a `TargetError`."""
        wanted = tier or self.main_memory
        for memory in self.memories:
            if memory.name == wanted:
                return memory
        tiers = ", ".join(memory.name for memory in self.memories)
        raise TargetError(
            "HETC-T009", "the device has no such memory", at=self.name, expected=tiers, found=wanted
        )

    def compute_dtype(self, dtype: str) -> str:
        """The dtype in which operands of `dtype` are multiplied: itself, or the next wider one."""
        return next(name for name in widening(dtype) if name in self.rates)

    def rate(self, dtype: str) -> Quantity:
        """Dense peak FLOP/s for operands of `dtype`, widened to `compute_dtype`."""
        return self.rates[self.compute_dtype(dtype)]

    def constant(self, name: str) -> float:
        """The value of a cost model constant; 0 for an optional one that the file leaves out."""
        found = self.constants.get(name)
        return found.value if found is not None else 0.0

    def calibrate(self, framework: str) -> Device:
        """The device with the constants that were fitted to `framework`'s published times.

        Raises TargetError (HETC-T014) where the file has no such calibration.
        """
        found = self.calibrations.get(framework)
        if found is None:
            raise TargetError(
                "HETC-T014",
                f"no calibration for {framework!r}",
                at=self.name,
                expected=", ".join(self.calibrations) or "none: the device has no calibration",
                do="leave --calibrated out, or add [calibration.FRAMEWORK] to a file of your own",
            )
        return replace(self, constants={**self.constants, **found.constants}, calibrated=framework)
