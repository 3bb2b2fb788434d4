"""The routes of a section as lines in the channels between its units, by what they carry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hetc.backends.dataflow.fabric import Fabric
from hetc.backends.dataflow.mesh import STEPS, Mesh, mesh_of
from hetc.backends.dataflow.schema import Section
from hetc.report.plots.scene import Lines, Point

# In parts of the distance of cells: the middle of a channel, its lanes, and the widest line.
_CHANNEL, _LANE, _WIDEST = 0.86, 0.07, 0.13
_STUB = 0.3
Segment = tuple[int, int, int, int]


@dataclass(frozen=True)
class Kind:
    """Nets that are drawn alike: their kinds, a colour, and their place in a channel."""

    title: str
    kinds: frozenset[str]
    stroke: str
    shift: float


KINDS = (
    Kind("memory to lanes", frozenset({"memory"}), "soft", -1.5),
    Kind("inside a stage", frozenset({"operand", "broadcast", "gather"}), "decode", -0.5),
    Kind("stage to stage", frozenset({"activation"}), "busy", 0.5),
    Kind("to sockets and memory", frozenset({"peer", "append"}), "prefill", 1.5),
)
# Shares of a link's rate up to which a line has a width, in parts of the widest.
WIDTHS = ((1 / 16, 0.25), (1 / 4, 0.45), (1 / 2, 0.7), (float("inf"), 1.0))


def routes(section: Section, fabric: Fabric, pitch: float, wide: int, origin: Point) -> list[Lines]:
    """Lines for every kind and width, where cells are `pitch` pixels apart from `origin` on and a
    switch has `wide` of them side by side."""
    mesh = mesh_of(fabric)
    drawn = []
    for kind in KINDS:
        by_width: dict[float, list[Segment]] = defaultdict(list)
        for segment, share in _loads(section, fabric, mesh, kind).items():
            width = next(width for most, width in WIDTHS if share <= most)
            by_width[width].append(segment)

        def at(x: int, y: int, lane: float = _CHANNEL + _LANE * kind.shift) -> Point:
            column = _inside(x, fabric.columns) * wide + wide - 1 + lane
            row = _inside(y, fabric.rows) + lane
            return origin[0] + column * pitch, origin[1] + row * pitch

        for width, segments in sorted(by_width.items()):
            lines = tuple((at(*run[:2]), at(*run[2:])) for run in _runs(segments))
            thickness = max(0.5, width * _WIDEST * pitch)
            drawn.append(Lines(lines, kind.stroke, thickness, cap="square"))
    return drawn


def _inside(place: int, count: int) -> float:
    """What closes a ring is drawn as a stub at the edge."""
    return min(max(float(place), -_STUB), count - 1 + _STUB)


def _loads(section: Section, fabric: Fabric, mesh: Mesh, kind: Kind) -> Mapping[Segment, float]:
    """The load of the fuller direction between two switches, as a share of a link's rate."""
    rates = {
        "vector": fabric.link_bytes_per_cycle,
        "scalar": fabric.scalar_link_bytes_per_cycle,
    }
    loads: dict[int, float] = defaultdict(float)
    for route in section.routes:
        if route.kind in kind.kinds:
            for path in route.paths:
                for link in mesh.links(path):
                    loads[link] += route.bytes_per_cycle / rates[route.network]
    found: dict[Segment, float] = defaultdict(float)
    for link, share in loads.items():
        segment = _segment(mesh, link)
        found[segment] = max(found[segment], share)
    return found


def _segment(mesh: Mesh, link: int) -> Segment:
    """From where to where a link leads, in the order of places, a ring rolled out."""
    y, x = divmod(link // 4, mesh.columns)
    dx, dy = STEPS[link % 4]
    ends = sorted([(x, y), (x + dx, y + dy)])
    return (*ends[0], *ends[1])


def _runs(segments: list[Segment]) -> Iterator[Segment]:
    """Segments that follow each other in a row or column as one."""
    for flat in (True, False):
        chosen = [s for s in segments if (s[1] == s[3]) == flat]
        ordered = sorted(chosen, key=lambda s: (s[1], s[0]) if flat else (s[0], s[1]))
        run: Segment | None = None
        for segment in ordered:
            if run is not None and run[2:] == segment[:2]:
                run = (*run[:2], *segment[2:])
                continue
            if run is not None:
                yield run
            run = segment
        if run is not None:
            yield run
