"""Lane macros: the things that are placed. A work lane is one; an auxiliary PCU and PMU share one.

Placing adjacent PCU and PMU as one thing removes most nets and beats the placement of single units
by 1.8 times in wirelength at equal effort (an experiment on one layer of Llama-3.1-8B).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from hetc.backends.dataflow.fabric import Fabric
from hetc.backends.dataflow.mesh import Site
from hetc.backends.dataflow.nets import REGION_LANES, StageUnits, chunk
from hetc.errors import PlanError


@dataclass(frozen=True)
class Macro:
    """What takes one site: a work lane, or a PCU and a PMU of one stage, or one of them alone."""

    stage: str
    units: tuple[str, ...]


def region_shape(fabric: Fabric) -> tuple[int, int]:
    """Width and height in lanes of the rectangles that tile the fabric: at most 16 lanes, as many
    as fit without a remainder, and of those the squarest on the mesh.
    """
    pitch = fabric.columns // fabric.lanes_x
    shapes = [
        (width, height)
        for width in range(1, fabric.lanes_x + 1)
        for height in range(1, fabric.lanes_y + 1)
        if fabric.lanes_x % width == 0 == fabric.lanes_y % height and width * height <= REGION_LANES
    ]
    return min(shapes, key=lambda shape: (-shape[0] * shape[1], pitch * shape[0] + shape[1], shape))


def macros_of(stage: StageUnits, pins: Mapping[str, Site]) -> list[Macro]:
    """The macros of a stage by its lanes, auxiliary units beside the lanes they serve."""
    serves = {
        unit: chunk(stage.work, len(units), number)[0 if role == "x" else -1]
        for role in "xrb"
        for units in [stage.units(role)]
        for number, unit in enumerate(units)
    }
    inputs = frozenset(stage.units("x"))
    placed = [(number, 1, (unit,)) for number, unit in enumerate(stage.units("w"))] + [
        (serves[group[0]], 0 if group[0] in inputs else 2, group)
        for group in _auxiliary_groups(stage, pins)
    ]
    return [Macro(stage.name, units) for _, _, units in sorted(placed)]


def _auxiliary_groups(stage: StageUnits, pins: Mapping[str, Site]) -> list[tuple[str, ...]]:
    """Reducers paired with buffers and input copies; a pinned unit only on the same pin."""
    pcus, pmus = stage.units("r"), stage.units("b") + stage.units("x")
    groups: list[tuple[str, ...]] = []
    for pcu in [unit for unit in pcus if unit in pins]:
        partner = next((unit for unit in pmus if pins.get(unit) == pins[pcu]), None)
        if partner is not None:
            pcus.remove(pcu)
            pmus.remove(partner)
            groups.append((pcu, partner))
    groups += [(unit,) for unit in pcus + pmus if unit in pins]
    free = zip_longest(
        [unit for unit in pcus if unit not in pins], [unit for unit in pmus if unit not in pins]
    )
    groups += [tuple(unit for unit in pair if unit is not None) for pair in free]
    return groups


def pinned_sites(
    fabric: Fabric, macros: Sequence[Macro], pins: Mapping[str, Site]
) -> dict[int, Site]:
    """Macro -> site for every pinned unit or stage; raises `PlanError` for pins that cannot be.

    A pinned stage fills a rectangle to the south-east of its site, as high as a region, column
    after column; units of it that have pins of their own are elsewhere.
    """
    by_name: dict[str, list[int]] = {}
    for number, macro in enumerate(macros):
        for name in (macro.stage, *macro.units):
            by_name.setdefault(name, []).append(number)
    found: dict[int, Site] = {}
    taken: dict[Site, str] = {}
    stages = {macro.stage for macro in macros}
    for name in sorted(pins, key=lambda name: (name in stages, name)):
        if name not in by_name:
            raise PlanError(
                "HETC-D111",
                "a pin names no stage and no unit of this section",
                at=name,
                expected="the name of a stage, or a unit such as qkv.w0",
            )
        loose = [number for number in by_name[name] if number not in found]
        for number, site in zip(loose, _rectangle(fabric, pins[name], len(loose)), strict=True):
            _claim(fabric, macros[number].units[0], name, site, taken)
            found[number] = site
    return found


def _rectangle(fabric: Fabric, corner: Site, count: int) -> list[Site]:
    x, y = corner
    height = max(1, min(count, region_shape(fabric)[1], fabric.lanes_y - y))
    return [(x + index // height, y + index % height) for index in range(count)]


def _claim(fabric: Fabric, unit: str, pin: str, site: Site, taken: dict[Site, str]) -> None:
    if not fabric.usable(*site):
        raise PlanError(
            "HETC-D111",
            "a pin puts a unit where the fabric has no lane",
            at=f"pin of {pin}, unit {unit}",
            expected=f"x below {fabric.lanes_x}, y below {fabric.lanes_y}, {fabric.lanes} lanes",
            found=site,
            do="move the pin to the north-west, or pin fewer units of the stage",
        )
    other = taken.setdefault(site, unit)
    if other != unit:
        raise PlanError(
            "HETC-D111",
            "two pins put two units on one site",
            at=f"{unit} and {other}",
            expected="one work lane, or a PCU and a PMU of one stage",
            found=site,
            do="pin one of them elsewhere",
        )
