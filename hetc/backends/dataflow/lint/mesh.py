"""Where units and ports stand, and how routes run over the mesh: the rules of docs/plan-format.md.

Switch (x, y) is in column x and row y of the grid, x to the east and y to the south. On a
`checkerboard` the lane site (x, y) is the pair of switches (2x, y) and (2x+1, y): in even rows the
PCU is the western one, in odd rows the PMU. With `tiles` the site (x, y) is switch (x, y) for both.
A path is `(x, y, "E7N2")`: from switch (x, y) seven hops east, then two north, in the direction of
the data; a torus wraps around.

Here a switch is a number, y * columns + x, and a link is 4 * switch + direction.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

from hetc.targets.model import Grid

Site = tuple[int, int]
Switch = int
Link = int

_DIRECTIONS = {"E": (0, 1, 0), "S": (1, 0, 1), "W": (2, -1, 0), "N": (3, 0, -1)}
_RUNS = re.compile(r"(?:[ESWN][1-9][0-9]{0,4})+")
_RUN = re.compile(r"([ESWN])([0-9]+)")
_EDGES = {
    "west": ("west",),
    "west-east": ("west", "east"),
    "north-south": ("north", "south"),
    "all": ("west", "east", "north", "south"),
}


@dataclass(frozen=True)
class Mesh:
    """The switches and links of a grid."""

    grid: Grid

    @cached_property
    def columns(self) -> int:
        return int(self.grid.columns.value)

    @cached_property
    def rows(self) -> int:
        return int(self.grid.rows.value)

    @cached_property
    def paired(self) -> bool:
        """Whether PCU and PMU of a lane have a switch each."""
        return self.grid.layout == "checkerboard"

    @cached_property
    def sites_x(self) -> int:
        return self.columns // 2 if self.paired else self.columns

    def has_site(self, site: Site) -> bool:
        return 0 <= site[0] < self.sites_x and 0 <= site[1] < self.rows

    def site_number(self, site: Site) -> int:
        """Sites counted row by row; lanes fill them in this order."""
        return site[1] * self.sites_x + site[0]

    def compute_switch(self, site: Site) -> Switch:
        """The switch of the PCU of a site."""
        x, y = site
        return self.switch(2 * x + y % 2 if self.paired else x, y)

    def memory_switch(self, site: Site) -> Switch:
        """The switch of the PMU of a site."""
        x, y = site
        return self.switch(2 * x + 1 - y % 2 if self.paired else x, y)

    def switch(self, x: int, y: int) -> Switch:
        return y * self.columns + x

    def told(self, link: Link) -> str:
        """`(3, 2) east`."""
        y, x = divmod(link // 4, self.columns)
        return f"({x}, {y}) {('east', 'south', 'west', 'north')[link % 4]}"

    @cached_property
    def ports(self) -> list[Switch]:
        """The switch of each memory port: evenly along an edge, edge after edge."""
        edges = _EDGES[self.grid.port_edges]
        count = int(self.grid.memory_ports.value)
        shares = [count // len(edges) + (place < count % len(edges)) for place in range(len(edges))]
        return [
            self._on_edge(edge, number, share)
            for edge, share in zip(edges, shares, strict=True)
            for number in range(share)
        ]

    def _on_edge(self, edge: str, number: int, share: int) -> Switch:
        upright = edge in ("west", "east")
        along = (2 * number + 1) * (self.rows if upright else self.columns) // (2 * share)
        last = {"east": self.columns - 1, "south": self.rows - 1}.get(edge, 0)
        return self.switch(last, along) if upright else self.switch(along, last)

    @cached_property
    def ends(self) -> tuple[Switch, ...]:
        """Link -> the switch where it ends, -1 where there is no such link."""
        return _ends(self.columns, self.rows, self.grid.topology == "torus")

    def walk(self, path: tuple[int, int, str]) -> list[Link]:
        """The links of a path; empty where it is no path on this mesh."""
        x, y, runs = path
        inside = 0 <= x < self.columns and 0 <= y < self.rows
        if not inside or _RUNS.fullmatch(runs) is None:
            return []
        ends, switch = self.ends, self.switch(x, y)
        found: list[Link] = []
        for direction, count in _RUN.findall(runs):
            number = _DIRECTIONS[direction][0]
            for _ in range(int(count)):
                link = 4 * switch + number
                found.append(link)
                switch = ends[link]
                # On a torus a path could go round for ever.
                if switch < 0 or len(found) > len(ends):
                    return []
        return found


@lru_cache(maxsize=16)
def _ends(columns: int, rows: int, torus: bool) -> tuple[Switch, ...]:
    found = []
    for y in range(rows):
        for x in range(columns):
            for _, step_x, step_y in _DIRECTIONS.values():
                to_x, to_y = x + step_x, y + step_y
                if torus:
                    to_x, to_y = to_x % columns, to_y % rows
                on = 0 <= to_x < columns and 0 <= to_y < rows
                found.append(to_y * columns + to_x if on else -1)
    return tuple(found)
