"""Where lanes, units and ports stand on a fabric, and how routes are written: the conventions.

**Switches.** Every unit has a switch of its own. Switch (x, y) is in column x and row y of the
target's `columns` x `rows`; x grows to the east, y to the south, and (0, 0) is the north-west
corner. Neighbouring switches are joined by one link in each direction, and on a torus the last
column (row) also by links to the first.

**Sites.** A lane stands on a site (x, y) of `lanes_x` x `lanes_y`; placements speak of sites only.

- `checkerboard`: site (x, y) is the pair of switches (2x, y) and (2x + 1, y). In even rows the
  PCU is the western one and the PMU the eastern, in odd rows the other way round.
- `tiles`: site (x, y) is switch (x, y), which serves the tile's PCU and PMU alike.

**Units.** `stage.w3` is a work lane and takes PCU and PMU of its site; `stage.x0` (a copy of the
stage's input) and `stage.b0` (an output buffer) take the PMU, `stage.r0` (a reducer) the PCU, so
that two such units may share a site. Data enters a work lane at its PMU and leaves it from its PCU;
only `operand` nets enter at the PCU. `port.5` is memory port 5 and `peer.5` the same port when it
talks to another socket; both are attached to the switch `Fabric.ports[5]`.

**Routes.** A path is `(x, y, "E7N2")`: from switch (x, y) seven hops east, then two north, in the
direction of the data; W and S are west and south. A net with one source is a tree out of it: the
first path starts at the source, every other at a switch that an earlier one passed, and no switch
is entered twice. A net with many sources and one sink is a tree into the sink: its paths start at
sources and end at the sink or at a switch that an earlier path passed, and no switch is left twice.

**Load.** Every link of a net's tree carries the net's `bytes_per_cycle` once, however many sinks
are behind it (multicast) or sources before it (their rates add up to no more than that at the
sink). The vector and the scalar network have separate links; virtual channels share their link's
rate. On a checkerboard, the vector link from a work lane's PMU to its PCU is reserved for the
lane's own stream, as wide as the PMU reads; routes get what is left of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from hetc.backends.dataflow.fabric import Fabric

Switch = tuple[int, int]
Site = tuple[int, int]
Path = tuple[int, int, str]
Half = Literal["pcu", "pmu"]

# Index = direction of a link; opposite directions differ by 2.
DIRECTIONS = "ENWS"
WEST = DIRECTIONS.index("W")
STEPS = ((1, 0), (0, -1), (-1, 0), (0, 1))

_RUN = re.compile(r"([ENWS])([1-9][0-9]*)")


def switch_of(fabric: Fabric, site: Site, half: Half) -> Switch:
    """The switch of the PCU or the PMU on `site`."""
    x, y = site
    if fabric.layout == "tiles":
        return (x, y)
    western: Half = "pmu" if y % 2 else "pcu"
    return (2 * x + (half != western), y)


def half_of(unit: str, *, entering: bool, kind: str) -> Half:
    """Where a net of `kind` enters or leaves `unit`, which is named as the module says."""
    role = unit.rpartition(".")[2][0]
    if role == "w":
        return "pmu" if entering and kind != "operand" else "pcu"
    return "pcu" if role == "r" else "pmu"


def port_number(unit: str) -> int | None:
    """5 for `port.5` and `peer.5`, None for a unit of a stage."""
    role, _, number = unit.partition(".")
    return int(number) if role in ("port", "peer") and number.isdecimal() else None


@dataclass(frozen=True)
class Mesh:
    """Switches and links as numbers: switch y * columns + x, link 4 * switch + direction.

    `ends[link]` is the switch where a link ends, -1 where there is no link.
    """

    columns: int
    rows: int
    ends: tuple[int, ...]
    wraps: bool

    def number(self, switch: Switch) -> int:
        """The number of a switch."""
        return switch[1] * self.columns + switch[0]

    def wrapping(self, link: int) -> bool:
        """Whether a link closes a row or column of a torus to a ring."""
        x, y = link // 4 % self.columns, link // 4 // self.columns
        dx, dy = STEPS[link % 4]
        return not (0 <= x + dx < self.columns and 0 <= y + dy < self.rows)

    def path(self, links: list[int]) -> Path:
        """Run-length form of consecutive links; there is at least one."""
        start = links[0] // 4
        letters = "".join(DIRECTIONS[link % 4] for link in links)
        runs = (run.group() for run in re.finditer(r"E+|N+|W+|S+", letters))
        return (
            start % self.columns,
            start // self.columns,
            "".join(f"{run[0]}{len(run)}" for run in runs),
        )

    def links(self, path: Path) -> list[int]:
        """The links of a path in run-length form; a ValueError where it leaves the grid."""
        x, y, runs = path
        if not (0 <= x < self.columns and 0 <= y < self.rows):
            raise ValueError(f"({x}, {y}) is not on the grid")
        if _RUN.sub("", runs):
            raise ValueError(f"{runs!r} is not a list of runs such as E7N2")
        here, found = self.number((x, y)), []
        for letter, count in _RUN.findall(runs):
            for _ in range(int(count)):
                link = 4 * here + DIRECTIONS.index(letter)
                here = self.ends[link]
                if here < 0:
                    raise ValueError(f"{path} leaves the grid")
                found.append(link)
        return found


def mesh_of(fabric: Fabric) -> Mesh:
    """The switches and links of a fabric."""
    columns, rows, wraps = fabric.columns, fabric.rows, fabric.topology == "torus"
    ends: list[int] = []
    for y in range(rows):
        for x in range(columns):
            for dx, dy in STEPS:
                inside = 0 <= x + dx < columns and 0 <= y + dy < rows
                # A ring of two would join the same neighbours twice.
                ring = wraps and (columns if dx else rows) > 2
                end = (y + dy) % rows * columns + (x + dx) % columns
                ends.append(end if inside or ring else -1)
    return Mesh(columns, rows, tuple(ends), wraps)
