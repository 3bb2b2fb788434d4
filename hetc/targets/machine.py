"""A machine of equal devices: its capacity, bandwidth, arithmetic and collectives in all."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from hetc.errors import TargetError
from hetc.targets.model import Device, Grid, Kind


@dataclass(frozen=True)
class Target:
    """A machine: `count` equal devices that split one model by tensor parallelism.

    Peak figures come from data sheets; the others carry the device's efficiency constants and are
    what a cost model uses.
    """

    device: Device
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise TargetError(
                "HETC-T010",
                "a machine has at least one device",
                at=self.device.name,
                found=self.count,
            )
        if self.count > 1 and "peer" not in self.device.links:
            raise TargetError(
                "HETC-T010",
                "this device cannot be one of several",
                at=self.name,
                expected="a [link.peer] in its file",
                found="no link to a sibling",
                do=f"use {self.device.name} alone, or describe its link in a file of your own",
            )

    @property
    def name(self) -> str:
        """`sn40l:16` for sixteen devices, `h200` for one."""
        return self.device.name if self.count == 1 else f"{self.device.name}:{self.count}"

    def calibrate(self, framework: str) -> Target:
        """The machine with the constants of a calibration; see `Device.calibrate`."""
        return replace(self, device=self.device.calibrate(framework))

    @property
    def kind(self) -> Kind:
        """The kind of its devices."""
        return self.device.kind

    @property
    def grid(self) -> Grid:
        """The grid of one device; a `TargetError` (HETC-T013) for a machine without one."""
        grid = self.device.grid
        if grid is None:
            raise TargetError(
                "HETC-T013",
                "a spatial plan needs a target with a grid",
                at=self.name,
                expected="a [grid] in its file",
                found=f"a {self.kind} target without one",
                do="use sn40l or another dataflow target, or describe the grid: docs/targets.md",
            )
        return grid

    @cached_property
    def sha256(self) -> str:
        """Digest of the device and the count; a machine of one has its device's digest."""
        if self.count == 1:
            return self.device.sha256
        return hashlib.sha256(f"{self.device.sha256}:{self.count}".encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """Name, count, digest and the device, as plain values."""
        return {
            "name": self.name,
            "count": self.count,
            "sha256": self.sha256,
            "device": self.device.as_json(),
        }

    def capacity_bytes(self, tier: str | None = None) -> int:
        """Bytes of one tier (the main memory by default) over all devices."""
        return int(self.device.memory(tier).bytes.value) * self.count

    @property
    def room_bytes(self) -> int:
        """Bytes that weights and state may take over all devices: the main memory, and on a
        dataflow device as much again in the tier behind, from which a plan streams the rest."""
        device, main = self.device, self.capacity_bytes()
        names = [memory.name for memory in device.memories]
        behind = names[names.index(device.main_memory) + 1 :]
        if self.kind != "dataflow" or not behind:
            return main
        return main + min(main, self.capacity_bytes(behind[0]))

    def peak_bandwidth(self, tier: str | None = None) -> float:
        """Data sheet B/s of one tier over all devices."""
        return self.device.memory(tier).bandwidth.value * self.count

    def bandwidth(self, tier: str | None = None) -> float:
        """B/s that a long sequential read reaches: the peak times `bandwidth_fraction`."""
        return self.peak_bandwidth(tier) * self.device.constant("bandwidth_fraction")

    def peak_rate(self, dtype: str) -> float:
        """Data sheet dense FLOP/s over all devices, `dtype` widened where needed."""
        return self.device.rate(dtype).value * self.count

    def rate(self, dtype: str) -> float:
        """FLOP/s that a large matrix product reaches: the peak times `gemm_fraction`.

        A narrow format may have a fraction of its own, `gemm_fraction_f8` for example.
        """
        narrow = self.device.constants.get(f"gemm_fraction_{self.device.compute_dtype(dtype)}")
        fraction = narrow.value if narrow is not None else self.device.constant("gemm_fraction")
        return self.peak_rate(dtype) * fraction

    def ridge(self, dtype: str) -> float:
        """Ridge point in FLOP/B: there, arithmetic takes as long as reading (Williams 2009)."""
        return self.rate(dtype) / self.bandwidth()

    def all_reduce_us(self, nbytes: float) -> float:
        """Time of one all-reduce of `nbytes`: the fixed cost and the cheaper of two algorithms.

        One shot sends the vector to every sibling and adds locally; two shots (reduce-scatter,
        all-gather) send 2(n-1)/n of it and wait for the link twice. A machine of one device pays
        nothing.
        """
        if self.count == 1:
            return 0.0
        link = self.device.links["peer"]
        others = self.count - 1
        wire_us = nbytes / link.sustained_bandwidth * 1e6
        one_shot = others * wire_us
        two_shots = 2 * others / self.count * wire_us + link.latency_us.value
        return self.device.constant("all_reduce_us") + min(one_shot, two_shots)

    def fits(self, nbytes: float, tier: str | None = None) -> bool:
        """Whether `nbytes`, split evenly, fit one tier of every device."""
        return math.ceil(nbytes / self.count) <= self.device.memory(tier).bytes.value
