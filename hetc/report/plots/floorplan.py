"""The floorplan of a section: units coloured by stage, memory ports at the edges, routes between.

A cell is a unit: square ones compute (PCU), round ones remember (PMU). Routes run in the channels
between cells, as wide as the fuller direction of a link is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hetc.backends.dataflow.fabric import Fabric
from hetc.backends.dataflow.mesh import Half, Switch, switch_of
from hetc.backends.dataflow.schema import Plan, Section
from hetc.report.plots.fabric_routes import KINDS, WIDTHS, routes
from hetc.report.plots.scene import Area, Item, Lines, Point, Rect, Scene, Text
from hetc.report.plots.stages import Shown, block_title, shown_stages
from hetc.report.tables import shortened
from hetc.report.units import binary_bytes

_GRID = 860.0  # pixels that a grid may be wide or high
_TOP, _EDGE, _LEGEND, _GAP = 64.0, 34.0, 364.0, 20.0
_ROW = 17.0  # of the legend
_FILLED = 0.72  # part of a cell that its unit fills; channels have the rest
_BOTH: tuple[Half, ...] = ("pcu", "pmu")
_HALVES: Mapping[str, tuple[Half, ...]] = {
    "w": _BOTH,
    "x": ("pmu",),
    "r": ("pcu",),
    "b": ("pmu",),
}


def floorplan(plan: Plan, section: Section, fabric: Fabric) -> Scene:
    """The picture of one section of `plan`, which is for `fabric`."""
    drawing = _Drawing(plan, section, fabric)
    legend = [*drawing.legend()]
    low = max(item.y for item in legend if isinstance(item, Text))
    return Scene(
        title=f"Floorplan of section {section.id} on {plan.target.name}",
        width=drawing.legend_x + _LEGEND,
        height=max(_TOP + drawing.height + 2 * _EDGE, low + 16),
        items=(
            *drawing.titles(),
            *drawing.cells(),
            *routes(section, fabric, drawing.pitch, drawing.wide, drawing.origin),
            *drawing.ports(),
            *drawing.units(),
            *drawing.numbers(),
            *legend,
        ),
    )


class _Drawing:
    def __init__(self, plan: Plan, section: Section, fabric: Fabric) -> None:
        self.plan, self.section, self.fabric = plan, section, fabric
        known = shown_stages(plan)
        self.stages: Sequence[Shown] = [known[name] for name in section.stages if name in known]
        self.wide = 2 if fabric.layout == "tiles" else 1
        columns = fabric.columns * self.wide
        self.pitch = min(30.0, _GRID / max(columns, fabric.rows))
        self.width, self.height = columns * self.pitch, fabric.rows * self.pitch
        self.origin: Point = (_EDGE, _TOP + _EDGE)
        self.legend_x = self.width + 2 * _EDGE + _GAP

    def titles(self) -> Iterator[Item]:
        plan, section = self.plan, self.section
        used = section.resources
        sockets = f", one of {plan.target.sockets} sockets" if plan.target.sockets > 1 else ""
        title = f"Section {section.id} on {self.fabric.name}{sockets}"
        yield Text(_EDGE, 24, title, size=17, fill="ink", bold=True)
        units = (
            f"{used.pcus:,} of {used.pcus_of:,} PCUs · {used.pmus:,} of {used.pmus_of:,} PMUs · "
            f"{binary_bytes(used.sram_bytes)} of {binary_bytes(used.sram_bytes_of)} SRAM · "
            f"{used.ports} of {used.ports_of} memory ports"
        )
        yield Text(_EDGE, 45, units, size=12.5)
        yield Text(_EDGE, 63, self._wirelength(), size=12.5)

    def _wirelength(self) -> str:
        length, baseline = self.section.wirelength, self.section.baseline_wirelength
        if not baseline:
            return f"wirelength {length:,} hops"
        saved = 1 - length / baseline
        how = (
            f"{abs(saved):.0%} {'shorter' if saved >= 0 else 'longer'} than in boustrophedon order"
        )
        return f"wirelength {length:,} hops, {how} ({baseline:,})"

    def _corner(self, switch: Switch, half: Half) -> Point:
        """The upper left corner of a unit's cell."""
        x = switch[0] * self.wide + (self.wide == 2 and half == "pmu")
        return self.origin[0] + x * self.pitch, self.origin[1] + switch[1] * self.pitch

    def _cell(self, site: tuple[int, int], half: Half, look: Mapping[str, object]) -> Rect:
        x, y = self._corner(switch_of(self.fabric, site, half), half)
        size = self.pitch * _FILLED
        radius = size * 0.36 if half == "pmu" else 0.0
        return Rect(x, y, size, size, radius=radius, **look)  # type: ignore[arg-type]

    def cells(self) -> Iterator[Item]:
        """Every unit that there is, a row of squares and a row of dots at a time."""
        size, fabric = self.pitch * _FILLED, self.fabric
        for half in _BOTH:
            lines = []
            for y in range(fabric.lanes_y):
                lanes = sum(fabric.usable(x, y) for x in range(fabric.lanes_x))
                if lanes:
                    left, top = self._corner(switch_of(fabric, (0, y), half), half)
                    right = left + (lanes - 1) * 2 * self.pitch + size
                    lines.append(((left, top + size / 2), (right, top + size / 2)))
            if half == "pcu":
                dashes = (size, 2 * self.pitch - size)
                yield Lines(tuple(lines), "cell", size, dashes)
            else:
                dots = tuple(((x + size / 2, y), (end, y)) for (x, y), (end, _) in lines)
                yield Lines(dots, "cell", size, (0.01, 2 * self.pitch - 0.01), "round")

    def units(self) -> Iterator[Item]:
        """The units in use; one that only remembers is paler."""
        for shown in self.stages:
            for unit, site in self._sites(shown):
                title = f"{unit} at {site[0]}, {site[1]}"
                for half in _HALVES[_role(unit)]:
                    opacity = 1.0 if half == "pcu" else 0.62
                    look = {"fill": shown.fill, "opacity": opacity, "title": title}
                    yield self._cell(site, half, look)

    def _sites(self, shown: Shown) -> list[tuple[str, tuple[int, int]]]:
        sites = self.section.sites.items()
        return [(unit, site) for unit, site in sites if unit.rpartition(".")[0] == shown.stage.id]

    def numbers(self) -> Iterator[Item]:
        """The number of its stage on every unit."""
        size = max(7.0, self.pitch * 0.46)
        for shown in self.stages:
            for unit, site in self._sites(shown):
                half = _HALVES[_role(unit)][0]
                left, top = self._corner(switch_of(self.fabric, site, half), half)
                middle = self.pitch * _FILLED / 2
                x, y = left + middle, top + middle + size * 0.36
                ink = "dark" if half == "pcu" else "ink"
                yield Text(x, y, str(shown.number), size, "middle", ink)

    def ports(self) -> Iterator[Item]:
        """A wedge at the edge for each memory port: filled where a stream is bound to it."""
        here = {shown.stage.id for shown in self.stages}
        streams = [stream for block in self.plan.blocks for stream in block.streams]
        used = {port for stream in streams if stream.stage in here for port in stream.ports}
        size = min(12.0, self.pitch * 0.8)
        for number, switch in enumerate(self.fabric.ports):
            dx, dy = self._outwards(switch)
            x, y = self._corner(switch, "pmu" if dx > 0 else "pcu")
            middle = (x + self.pitch * _FILLED / 2, y + self.pitch * _FILLED / 2)
            reach = self.pitch * 0.5 + 3
            tip = (middle[0] + dx * reach, middle[1] + dy * reach)
            base = (tip[0] + dx * size, tip[1] + dy * size)
            wedge = (
                tip,
                (base[0] + dy * size / 2, base[1] + dx * size / 2),
                (base[0] - dy * size / 2, base[1] - dx * size / 2),
            )
            title = f"memory port {number}"
            if number in used:
                yield Area((wedge,), "ink", title=title)
            else:
                yield Lines(((*wedge, wedge[0]),), "soft", 0.8, title=f"{title}, not in use")
            if number in used:
                place = (base[0] + dx * 3, base[1] + 3.2 if dx else base[1] + dy * 4 + 3.2)
                anchor = "middle" if dy else "end" if dx < 0 else "start"
                yield Text(*place, str(number), 9, anchor)  # type: ignore[arg-type]

    def _outwards(self, switch: Switch) -> tuple[int, int]:
        if switch[0] in (0, self.fabric.columns - 1):
            return (-1 if switch[0] == 0 else 1), 0
        return 0, (-1 if switch[1] == 0 else 1)

    def legend(self) -> Iterator[Item]:
        """The stages by block with their units, then what shapes and lines stand for."""
        x, y = self.legend_x, _TOP + 14
        yield from self._heads(y)
        block = None
        for shown in self.stages:
            if shown.block is not block:
                block = shown.block
                y += _ROW + 4
                yield Text(x, y, block_title(block), size=12, fill="ink", bold=True)
            y += _ROW
            yield from self._stage_row(shown, y)
        y += _ROW
        for item, text in self._keys(y + _ROW):
            y += _ROW
            yield from item
            yield Text(x + 44, y, text, size=11.5)

    def _heads(self, y: float) -> Iterator[Item]:
        for title, at in (("PCUs", 302), ("PMUs", 342)):
            yield Text(self.legend_x + at, y + 4, title, 11, "end")

    def _stage_row(self, shown: Shown, y: float) -> Iterator[Item]:
        x, units = self.legend_x, shown.stage.units
        yield Rect(x, y - 9, 10, 10, fill=shown.fill)
        yield Rect(x + 12, y - 9, 10, 10, fill=shown.fill, opacity=0.62, radius=3.6)
        yield Text(x + 42, y, str(shown.number), 11.5, "end", "ink", bold=True)
        yield Text(x + 48, y, shortened(shown.stage.name, 31), 11.5, fill="ink")
        yield Text(x + 302, y, f"{units.pcus:,}", 11.5, "end")
        yield Text(x + 342, y, f"{units.pmus:,}", 11.5, "end")

    def _keys(self, y: float) -> Iterator[tuple[list[Item], str]]:
        x = self.legend_x
        yield [Rect(x + 12, y - 9, 10, 10, fill="cell")], "PCU: compute unit"
        y += _ROW
        yield [Rect(x + 12, y - 9, 10, 10, fill="cell", radius=3.6)], "PMU: memory unit"
        y += _ROW
        wedge = ((x + 22, y - 4), (x + 12, y - 9), (x + 12, y + 1))
        yield [Area((wedge,), "ink")], "memory port (AGCU) in use"
        for kind in KINDS:
            y += _ROW
            line = ((x, y - 4), (x + 34, y - 4))
            yield [Lines((line,), kind.stroke, 2)], kind.title
        y += _ROW
        steps: list[Item] = [
            Lines((((x + 9 * n, y - 4), (x + 9 * n + 7, y - 4)),), "soft", max(0.5, 2.7 * width))
            for n, (_, width) in enumerate(WIDTHS)
        ]
        yield steps, "up to 1/16, 1/4, 1/2, all of a link"


def _role(unit: str) -> str:
    return unit.rpartition(".")[2][0]
