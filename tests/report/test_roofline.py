"""Rooflines: every dot and label inside the panel, at or below the roof of its device."""

from __future__ import annotations

import pytest

from hetc import targets
from hetc.report.fold import fold
from hetc.report.plots.roofline import Roofline
from hetc.report.plots.roofline import panel as panel_of
from tests.report.facts import DEVICES, decisions

TARGETS: dict[str, targets.Target] = {role: targets.load(name) for role, name in DEVICES.items()}


def panel(phase: str) -> Roofline:
    ops = fold(record for record in decisions()["ops"] if record["phase"] == phase)
    return panel_of(phase, ops, TARGETS, "f32")


def roof_at(panel: Roofline, role: str, x: float) -> float:
    """The pixel of the roof above `x`; pixels count downwards."""
    (roof,) = (roof for roof in panel.roofs if roof.role == role)
    (x0, y0), (x1, y1), _ = roof.points
    return y1 if x >= x1 else y0 + (y1 - y0) * (x - x0) / (x1 - x0)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_dots_are_inside_and_below_the_roof(phase: str) -> None:
    made = panel(phase)
    assert made.dots
    for dot in made.dots:
        assert made.left <= dot.x <= made.right
        assert made.top <= dot.y <= made.bottom
        assert dot.y >= roof_at(made, dot.role, dot.x) - 1.5
        assert dot.title


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_ticks_are_decades_inside_the_panel(phase: str) -> None:
    made = panel(phase)
    assert len(made.x_ticks) >= 2
    assert all(made.left <= tick.at <= made.right for tick in made.x_ticks)
    steps = {round(b.at - a.at) for a, b in zip(made.x_ticks, made.x_ticks[1:], strict=False)}
    assert max(steps) - min(steps) <= 1


def test_the_ridge_is_where_the_roof_turns() -> None:
    for roof in panel("decode").roofs:
        assert roof.points[1] == (roof.ridge_x, roof.ridge_y)


def test_no_label_without_a_place() -> None:
    for dot in panel("prefill").dots:
        assert bool(dot.label) == bool(dot.label_x)
