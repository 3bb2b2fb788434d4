"""Placement: a site for every unit, near what it talks to.

The baseline to beat is what a person would do: lane macros in boustrophedon order, region after
region. Annealing starts from that or from a quadratic placement, whichever is shorter, and moves
single lanes. (Annealing whole regions first was tried: the quadratic start is better and takes a
tenth of the time.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hetc.backends.dataflow.anneal import Arrangement, Problem, anneal
from hetc.backends.dataflow.fabric import Fabric
from hetc.backends.dataflow.lanes import Macro, macros_of, pinned_sites, region_shape
from hetc.backends.dataflow.mesh import Half, Site, half_of, port_number, switch_of
from hetc.backends.dataflow.nets import Net, StageUnits
from hetc.backends.dataflow.spread import spread
from hetc.errors import PlanError

_HALVES: tuple[Half, Half] = ("pcu", "pmu")


@dataclass(frozen=True)
class PlaceOptions:
    """Effort and seed of the annealing; `pins` hold a unit or a stage on a site.

    With `weigh_demand`, a net that fills its links counts more than one that hardly uses them.
    """

    seed: int = 0
    moves: int = 160_000
    weigh_demand: bool = False
    pins: Mapping[str, Site] = field(default_factory=dict)


@dataclass(frozen=True)
class Placement:
    """Unit -> site, and the total HPWL in hops of it and of the boustrophedon it started from.

    A site (x, y) is a lane; `mesh.py` says where its PCU and PMU are.
    """

    sites: Mapping[str, Site]
    wirelength: int
    baseline_wirelength: int
    seed: int


def place(
    fabric: Fabric, stages: Sequence[StageUnits], nets: Sequence[Net], options: PlaceOptions
) -> Placement:
    """Place all units of a section; raises `PlanError` where lanes run short or pins are wrong."""
    macros = [macro for stage in stages for macro in macros_of(stage, options.pins)]
    if len(macros) > fabric.lanes:
        raise PlanError(
            "HETC-D110",
            "a section needs more lanes than the fabric has",
            at=", ".join(stage.name for stage in stages),
            expected=f"at most {fabric.lanes} lanes of {fabric.name}",
            found=f"{len(macros)} lanes, {len(macros) - fabric.lanes} too many",
            do="split the section, or give its largest stages fewer lanes",
        )
    pinned = pinned_sites(fabric, macros, options.pins)
    problem = _lane_problem(fabric, macros, nets, options.weigh_demand)
    frozen = frozenset(pinned)
    snakes = [
        _boustrophedon(fabric, len(macros), pinned, by_rows=by_rows) for by_rows in (False, True)
    ]
    baseline = min(snakes, key=lambda slots: _wirelength(problem, slots))
    start = min(
        baseline, spread(problem, baseline, frozen), key=lambda slots: _cost(problem, slots)
    )
    slots = anneal(problem, start, frozen, options.moves, options.seed)
    sites = {
        unit: (slot % fabric.lanes_x, slot // fabric.lanes_x)
        for macro, slot in zip(macros, slots, strict=True)
        for unit in macro.units
    }
    shortest = _wirelength(problem, baseline)
    return Placement(sites, _wirelength(problem, slots), shortest, options.seed)


def _cost(problem: Problem, slots: Sequence[int]) -> int:
    return Arrangement(problem, slots).cost


def _wirelength(problem: Problem, slots: Sequence[int]) -> int:
    unweighted = dataclasses.replace(problem, weights=(1,) * len(problem.weights))
    return _cost(unweighted, slots)


def _lane_problem(
    fabric: Fabric, macros: Sequence[Macro], nets: Sequence[Net], weigh_demand: bool
) -> Problem:
    """Macros on lanes; a pin is a macro's PCU or PMU switch."""
    sites = [(x, y) for y in range(fabric.lanes_y) for x in range(fabric.lanes_x)]
    thing_of = {unit: number for number, macro in enumerate(macros) for unit in macro.units}
    pins: list[tuple[int, int]] = []
    net_pins: list[tuple[int, ...]] = []
    fixed: list[tuple[Site, ...]] = []
    for net in nets:
        terminals: dict[tuple[int, int], None] = {}
        ports: list[Site] = []
        for unit, entering in [*((u, False) for u in net.sources), *((u, True) for u in net.sinks)]:
            port = port_number(unit)
            if port is not None:
                ports.append(fabric.ports[port])
            else:
                half = half_of(unit, entering=entering, kind=net.kind)
                terminals[thing_of[unit], _HALVES.index(half)] = None
        net_pins.append(tuple(range(len(pins), len(pins) + len(terminals))))
        pins += terminals
        fixed.append(tuple(ports))
    switches = [[switch_of(fabric, site, half) for site in sites] for half in _HALVES]
    widest = max(fabric.link_bytes_per_cycle, 1)
    return Problem(
        width=fabric.lanes_x,
        height=fabric.lanes_y,
        usable=tuple(fabric.usable(*site) for site in sites),
        columns=tuple(tuple(x for x, _ in row) for row in switches),
        rows=tuple(tuple(y for _, y in row) for row in switches),
        pins=tuple(pins),
        nets=tuple(net_pins),
        fixed=tuple(fixed),
        weights=tuple(1 + 4 * net.bytes_per_cycle // widest if weigh_demand else 1 for net in nets),
    )


def _boustrophedon(
    fabric: Fabric, count: int, pinned: Mapping[int, Site], *, by_rows: bool
) -> list[int]:
    """Macros in their order over the snake of regions, around the pinned ones."""
    number = {macro: y * fabric.lanes_x + x for macro, (x, y) in pinned.items()}
    held = frozenset(number.values())
    width, height = region_shape(fabric)
    across, down = fabric.lanes_x // width, fabric.lanes_y // height
    tiles = [(x, y) for y, x in _snake(down, across)] if by_rows else _snake(across, down)
    snake = [
        (top * height + y) * fabric.lanes_x + left * width + x
        for left, top in tiles
        for x, y in _snake(width, height)
    ]
    free = iter([slot for slot in snake if slot < fabric.lanes and slot not in held])
    return [number[macro] if macro in number else next(free) for macro in range(count)]


def _snake(width: int, height: int) -> list[Site]:
    """All cells of an array, column after column, alternately southwards and northwards."""
    return [(x, y if x % 2 == 0 else height - 1 - y) for x in range(width) for y in range(height)]
