"""Turn checked tables of a target file into devices and links; `files.py` has ruled out every fault
before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hetc.targets.forms import Number, Table
from hetc.targets.model import Assumption, Calibration, Device, Grid, Link, Memory, Quantity
from hetc.targets.schema import CONSTANT_UNITS, GRID, LINK


def build_device(table: Mapping[str, Any], named_link: Callable[[str], Link]) -> Device:
    """The device that a checked table describes; `named_link` finds a link that the file only
    names.
    """

    def link(role: str, entry: str | Mapping[str, Any]) -> Link:
        return named_link(entry) if isinstance(entry, str) else build_link(role, entry)

    return Device(
        name=table["name"],
        title=table["title"],
        kind=table["kind"],
        main_memory=table["main_memory"],
        memories=tuple(
            Memory(tier, _quantity(entry["bytes"], "B"), _quantity(entry["bandwidth"], "B/s"))
            for tier, entry in table["memory"].items()
        ),
        rates={dtype: _quantity(entry, "FLOP/s") for dtype, entry in table["rate"].items()},
        constants=_assumptions(table["assumption"]),
        links={role: link(role, entry) for role, entry in table.get("link", {}).items()},
        arch=table.get("arch", ""),
        features=tuple(table.get("features", ())),
        units=_quantity(table["units"], "1") if "units" in table else None,
        power_w=_quantity(table["power_w"], "W") if "power_w" in table else None,
        grid=_grid(table["grid"]) if "grid" in table else None,
        section=table.get("section", "step"),
        calibrations={
            name: Calibration(name, entry["rows"], _assumptions(entry["constants"]))
            for name, entry in table.get("calibration", {}).items()
        },
    )


def build_link(name: str, table: Mapping[str, Any]) -> Link:
    """The link that a checked table describes."""
    return Link(name=name, title=table["title"], **_numbers(LINK, table))


def _grid(table: Mapping[str, Any]) -> Grid:
    return Grid(
        layout=table["layout"],
        topology=table["topology"],
        port_edges=table["port_edges"],
        **_numbers(GRID, table),
    )


def _numbers(form: Table, table: Mapping[str, Any]) -> dict[str, Quantity]:
    return {
        name: _quantity(table[name], entry.unit)
        for name, entry in form.required.items()
        if isinstance(entry, Number)
    }


def _quantity(entry: Mapping[str, Any], unit: str) -> Quantity:
    span = (float(entry["range"][0]), float(entry["range"][1])) if "range" in entry else None
    return Quantity(
        float(entry["value"]), unit, entry.get("source", ""), span, entry.get("why", "")
    )


def _assumptions(table: Mapping[str, Any]) -> dict[str, Assumption]:
    return {name: _assumption(name, entry) for name, entry in table.items()}


def _assumption(name: str, entry: Mapping[str, Any]) -> Assumption:
    number = _quantity(entry, CONSTANT_UNITS[name])
    return Assumption(number.value, number.unit, number.source, number.range, number.why, name)
