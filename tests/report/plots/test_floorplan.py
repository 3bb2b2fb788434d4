"""Floorplans: every unit once, every route's links, nothing outside and no text on another."""

from __future__ import annotations

from collections import Counter

import pytest

from hetc.backends.dataflow.fabric import Fabric, fabric_of
from hetc.backends.dataflow.floorplan import floorplan as place
from hetc.backends.dataflow.mesh import mesh_of
from hetc.backends.dataflow.planner import Planner, Sizes
from hetc.backends.dataflow.schema import Plan, Request
from hetc.passes.shard import shard
from hetc.report.plots import Scene, floorplan
from hetc.report.plots.fabric_routes import KINDS, routes
from hetc.report.plots.scene import Area, Circle, Item, Rect, Text, text_width
from hetc.report.plots.stages import shown_stages
from hetc.targets import load
from tests.backends.dataflow.planned import ONE, TWO, fabric, planned
from tests.backends.dataflow.toy_graph import toy_graph


def tiles() -> tuple[Plan, Fabric]:
    """The toy on a torus of tiles."""
    target = load("wormhole")
    sharded = shard(toy_graph(1), 1, replicate_below_bytes=0)
    planner = Planner(sharded, target, Sizes(1, 64, 128), Request(place_moves=2000), "hetc")
    return place(planner.plan(), planner.fabric), fabric_of(target)


def given(name: str) -> tuple[Plan, Fabric]:
    return tiles() if name == "tiles" else (planned(name), fabric(name))


CASES = pytest.mark.parametrize("name", [ONE, TWO, "tiles"])


def box(item: Item) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of an item."""
    if isinstance(item, Rect):
        return item.x, item.y, item.x + item.width, item.y + item.height
    if isinstance(item, Circle):
        r = item.radius
        return item.x - r, item.y - r, item.x + r, item.y + r
    if isinstance(item, Text):
        width = text_width(item.text, item.size)
        left = item.x - {"start": 0.0, "middle": width / 2, "end": width}[item.anchor]
        return left, item.y - item.size * 0.8, left + width, item.y + item.size * 0.2
    points = [p for line in (item.polygons if isinstance(item, Area) else item.lines) for p in line]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


def check_layout(scene: Scene) -> None:
    """Nothing is outside of the picture, and no text lies on another."""
    for item in scene.items:
        left, top, right, bottom = box(item)
        assert left >= -1, item
        assert top >= 0, item
        assert right <= scene.width + 1, item
        assert bottom <= scene.height + 1, item
    texts = [item for item in scene.items if isinstance(item, Text)]
    for number, one in enumerate(texts):
        for other in texts[number + 1 :]:
            (a, b, c, d), (e, f, g, h) = box(one), box(other)
            assert c <= e or g <= a or d <= f or h <= b, (one, other)


@CASES
def test_every_unit_is_drawn_once(name: str) -> None:
    plan, chip = given(name)
    for section in plan.sections:
        scene = floorplan(plan, section, chip)
        cells = [item for item in scene.items if isinstance(item, Rect) and item.title]
        found = Counter(cell.title.partition(" ")[0] for cell in cells)
        halves = {unit: 2 if ".w" in unit else 1 for unit in section.sites}
        assert found == halves
        assert len({(cell.x, cell.y) for cell in cells}) == len(cells), "two on one place"
        assert sum(not cell.radius for cell in cells) == section.resources.pcus
        assert sum(bool(cell.radius) for cell in cells) == section.resources.pmus
        check_layout(scene)


@CASES
def test_titles_and_legend_say_what_the_plan_says(name: str) -> None:
    plan, chip = given(name)
    known = shown_stages(plan)
    assert [item.number for item in known.values()] == list(range(1, len(known) + 1))
    for section in plan.sections:
        texts = [item.text for item in floorplan(plan, section, chip).items if type(item) is Text]
        used = section.resources
        assert any(text.startswith(f"{used.pcus:,} of {used.pcus_of:,} PCUs") for text in texts)
        assert any(f"wirelength {section.wirelength:,} hops" in text for text in texts)
        numbers = Counter(texts)
        for stage in section.stages:
            shown = known[stage]
            assert shown.stage.name in texts
            # Once in the legend, once on each unit; other numbers may read the same.
            units = sum(unit.startswith(f"{stage}.") for unit in section.sites)
            assert numbers[str(shown.number)] >= units + 1


@pytest.mark.parametrize("name", [ONE, TWO])
def test_every_link_of_the_routes_is_drawn(name: str) -> None:
    plan, chip = given(name)
    mesh = mesh_of(chip)
    for section in plan.sections:
        lengths: Counter[str] = Counter()
        for item in routes(section, chip, 10.0, 1, (0.0, 0.0)):
            lengths[item.stroke] += round(
                sum(abs(x2 - x) + abs(y2 - y) for (x, y), (x2, y2) in item.lines)
            )
        for kind in KINDS:
            links = {
                frozenset((link // 4, mesh.ends[link]))
                for route in section.routes
                if route.kind in kind.kinds
                for path in route.paths
                for link in mesh.links(path)
            }
            assert lengths[kind.stroke] == 10 * len(links)


def test_routes_are_as_wide_as_they_are_loaded() -> None:
    plan, chip = planned(ONE), fabric(ONE)
    (section,) = plan.sections
    widths = {item.width for item in routes(section, chip, 100.0, 1, (0.0, 0.0))}
    assert 1 < len(widths) <= 4
