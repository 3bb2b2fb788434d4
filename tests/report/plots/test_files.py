"""Pictures as files: the same bytes, well-formed, without anything from elsewhere."""

from __future__ import annotations

import re
import struct
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from hetc.backends.dataflow.simulate import speeds_of, timeline
from hetc.errors import MissingDependency
from hetc.report.fold import fold
from hetc.report.plots import Scene, floorplan, gantt, png, roofline, svg
from hetc.report.plots.scene import PALETTE, STAGE_FILLS, Area, Circle, Lines, Rect, Text
from hetc.targets import Target, load
from tests.backends.dataflow.planned import TWO, fabric, planned
from tests.report.facts import DEVICES, decisions


def picture(name: str) -> Scene:
    plan = planned(TWO)
    if name == "floorplan":
        return floorplan(plan, plan.sections[1], fabric(TWO))
    if name == "gantt":
        return gantt(plan, timeline(plan, speeds_of(load(TWO))))
    targets: dict[str, Target] = {role: load(device) for role, device in DEVICES.items()}
    ops = fold(record for record in decisions()["ops"] if record["phase"] == "decode")
    return roofline("decode", ops, targets, "f32")


ALL = pytest.mark.parametrize("name", ["floorplan", "gantt", "roofline"])


@ALL
def test_svg(name: str) -> None:
    scene = picture(name)
    text = svg(scene)
    assert text == svg(picture(name))
    root = ET.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.attrib["aria-label"] == scene.title
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    assert (left, top) == (0, 0)
    assert width == pytest.approx(scene.width, abs=0.01)
    assert height == pytest.approx(scene.height, abs=0.01)
    assert not re.search(r"href|url\(|<script|@import", text)
    assert set(re.findall(r"\b[fs]-([a-z]+)", text)) <= PALETTE.keys()
    inline = svg(scene, alone=False)
    assert "<style>" not in inline
    assert ET.fromstring(inline).tag == "svg"


@ALL
def test_png(name: str) -> None:
    scene = picture(name)
    data = png(scene)
    assert data == png(picture(name))
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    assert width / height == pytest.approx(scene.width / scene.height, rel=0.01)
    assert b"tEXt" not in data, "no words of the program that wrote it, and no date"


def test_png_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    scene = Scene("empty", 10, 10, ())
    with pytest.raises(MissingDependency, match="matplotlib"):
        png(scene)
    assert svg(scene)


def test_every_item_has_a_form() -> None:
    items = (
        Rect(1, 2, 3, 4, fill="blue", stroke="ink", opacity=0.5, radius=1, title="a<b"),
        Area((((0, 0), (4, 0), (4, 2.04)),), "mint"),
        Lines((((0, 0), (0, 5), (3, 9)),), "soft", 2, dashes=(1, 2), cap="round"),
        Circle(5, 5, 2.5, "rose", opacity=0.3),
        Text(1, 9, "x & $y$", bold=True, halo=True, anchor="end"),
    )
    scene = Scene("all", 20, 10, items)
    assert svg(scene, alone=False).splitlines()[1:-1] == [
        '<rect class="f-blue s-ink" x="1" y="2" width="3" height="4" rx="1" opacity="0.5">'
        "<title>a&lt;b</title></rect>",
        '<path class="f-mint" d="M0 0H4V2z"/>',
        '<path class="s-soft" d="M0 0V5L3 9" stroke-width="2" stroke-linejoin="round" '
        'stroke-linecap="round" stroke-dasharray="1 2" fill="none"/>',
        '<circle class="f-rose s-rose" cx="5" cy="5" r="2.5" fill-opacity="0.3"/>',
        '<text class="f-soft b h s-card" x="1" y="9" font-size="11.5" text-anchor="end">'
        "x &amp; $y$</text>",
    ]
    assert png(scene)
    assert png(scene) != png(replace(scene, items=items[:-1]))


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.1)."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    high, low = sorted([luminance(one), luminance(other)], reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_texts_can_be_read_on_light_and_dark_pages() -> None:
    for page in ("light", "dark"):
        value = {name: getattr(colour, page) for name, colour in PALETTE.items()}
        for text in ("ink", "soft", "prefill", "decode"):
            assert contrast(value[text], value["card"]) >= 4.5
        for fill in (*STAGE_FILLS, "grey"):
            assert contrast(value["dark"], value[fill]) >= 4.5
