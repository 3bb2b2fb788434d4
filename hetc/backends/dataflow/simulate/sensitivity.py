"""How much the answer hangs on what nobody published: TPOT at both ends of every assumed range."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from hetc.backends.dataflow.schema import Plan
from hetc.backends.dataflow.simulate.run import simulate
from hetc.backends.dataflow.simulate.speeds import speeds_of
from hetc.targets import Device, Quantity, Target

# Names in a target file of what `Speeds` takes from it.
_SPEEDS = (
    "assumption.bandwidth_fraction",
    "memory.hbm.bandwidth",
    "memory.dram.bandwidth",
    "memory.ddr.bandwidth",
    "grid.memory_latency_us",
    "grid.port_bytes_per_cycle",
)
# And of what stands in the fields of a plan and takes time: launches, exchanges, latencies.
_PLANNED = (
    "assumption.launch_us",
    "assumption.section_launch_us",
    "assumption.all_reduce_us",
    "assumption.step_us",
    "link.peer.bandwidth",
    "link.peer.fraction",
    "link.peer.latency_us",
    "grid.clock_hz",
    "grid.unit_latency_cycles",
    "grid.hop_cycles",
    "grid.link_bytes_per_cycle",
    "grid.memory_ports",
    "grid.reconfigure_us",
)


@dataclass(frozen=True)
class Sensitivity:
    """A constant of the target file, and TPOT where it has its lowest and its highest value.

    `replanned`: the plan was made anew for each, because it holds numbers that follow from it.
    """

    name: str
    unit: str
    value: float
    low: float
    high: float
    tpot_us_at_low: float
    tpot_us_at_high: float
    replanned: bool

    @property
    def effect_us(self) -> float:
        """How far apart the two answers are."""
        return abs(self.tpot_us_at_high - self.tpot_us_at_low)


def sensitivity(
    plan: Plan, target: Target, *, replan: Callable[[Target], Plan] | None = None
) -> tuple[Sensitivity, ...]:
    """One entry for each constant with a range that a simulation uses, the largest effect first.

    Bandwidth and latency of the memories and what a port carries are the target's, for the plan as
    it is. All others are in the plan's fields, and are left out unless `replan` makes the plan of
    another target.
    """
    found = []
    for name, quantity, (lowest, highest) in _ranged(
        target.device, (*_SPEEDS, *(_PLANNED if replan is not None else ()))
    ):
        again = None if name in _SPEEDS else replan
        low, high = (
            _tpot_us(plan, _with(target, name, value), again) for value in (lowest, highest)
        )
        found.append(
            Sensitivity(
                name=name,
                unit=quantity.unit,
                value=quantity.value,
                low=lowest,
                high=highest,
                tpot_us_at_low=low,
                tpot_us_at_high=high,
                replanned=again is not None,
            )
        )
    return tuple(sorted(found, key=lambda entry: (-entry.effect_us, entry.name)))


def held_in_plans(target: Target) -> tuple[str, ...]:
    """The constants with a range that stand in the fields of a plan: another value, another
    plan."""
    return tuple(name for name, _, _ in _ranged(target.device, _PLANNED))


def _ranged(
    device: Device, names: Iterable[str]
) -> Iterator[tuple[str, Quantity, tuple[float, float]]]:
    """Those of `names` that the device's file has with a range, and the range."""
    for name in names:
        quantity = _quantity(device, name)
        if quantity is not None and quantity.range and quantity.range[0] != quantity.range[1]:
            yield name, quantity, quantity.range


def _tpot_us(plan: Plan, target: Target, replan: Callable[[Target], Plan] | None) -> float:
    if replan is not None:
        plan = replan(target)
    return simulate(plan, speeds_of(target)).tpot_us


def _quantity(device: Device, name: str) -> Quantity | None:
    """What the device's file has under a name."""
    match name.split("."):
        case ["assumption", constant]:
            return device.constants.get(constant)
        case ["memory", tier, _]:
            return next((m.bandwidth for m in device.memories if m.name == tier), None)
        case ["link", link, field]:
            return getattr(device.links.get(link), field, None)
        case [_, field]:
            return getattr(device.grid, field, None)
    return None


def _with(target: Target, name: str, value: float) -> Target:
    """The target with another value under a name that its file has."""
    device = target.device
    match name.split("."):
        case ["assumption", constant]:
            changed = dataclasses.replace(device.constants[constant], value=value)
            device = dataclasses.replace(device, constants={**device.constants, constant: changed})
        case ["memory", tier, field]:
            memories = (_put(m, field, value) if m.name == tier else m for m in device.memories)
            device = dataclasses.replace(device, memories=tuple(memories))
        case ["link", link, field]:
            links = {**device.links, link: _put(device.links[link], field, value)}
            device = dataclasses.replace(device, links=links)
        case [_, field]:
            device = dataclasses.replace(device, grid=_put(device.grid, field, value))
    return dataclasses.replace(target, device=device)


def _put(part: Any, field: str, value: float) -> Any:
    quantity = dataclasses.replace(getattr(part, field), value=value)
    return dataclasses.replace(part, **{field: quantity})
