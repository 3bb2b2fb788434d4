"""A token in time: lanes, shares and labels."""

from __future__ import annotations

import numpy as np
import pytest

from hetc.backends.dataflow.schema import Plan
from hetc.backends.dataflow.simulate import Speeds, simulate, speeds_of, timeline
from hetc.backends.dataflow.simulate.timeline import STATES, Lane
from hetc.report.plots import Scene, gantt
from hetc.report.plots.lanes import Axis, bars, shares
from hetc.report.plots.scene import Text
from hetc.targets import load
from tests.backends.dataflow.planned import ONE, TWO, planned
from tests.backends.dataflow.plans import Decoder, decoder
from tests.backends.dataflow.simulate.sn40l import SN40L
from tests.report.plots.test_floorplan import check_layout


def drawn(plan: Plan, speeds: Speeds) -> Scene:
    return gantt(plan, timeline(plan, speeds))


def texts(scene: Scene) -> list[str]:
    return [item.text for item in scene.items if isinstance(item, Text)]


def lane(**given: list[tuple[float, float]]) -> Lane:
    spans = {state: np.array(given.get(state, []), dtype=float).reshape(-1, 2) for state in STATES}
    return Lane("a", "stage", spans)


def test_shares_are_those_of_the_spans() -> None:
    axis = Axis(10.0, 30.0, 0.0, 100.0)
    made = lane(busy=[(0, 15), (20, 21)], starved=[(21, 25)], stalled=[(25, 99)])
    assert shares(made, axis) == pytest.approx([0.3, 0.2, 0.25])


def test_a_bar_is_as_high_as_the_share_of_its_column() -> None:
    axis = Axis(0.0, 100.0, 0.0, 100.0)
    # Columns are two pixels: half of the second one is busy, a quarter waits.
    busy, starved = bars(lane(busy=[(0, 2), (2, 3)], starved=[(3, 3.5)]), axis, 0.0, 16.0)
    assert list(busy.polygons[0]) == [(0, 0), (2, 0), (2, 8), (4, 8), (4, 16), (0, 16)]
    assert list(starved.polygons[0]) == [(2, 4), (4, 4), (4, 8), (2, 8)]


def test_what_is_short_is_seen() -> None:
    (area,) = bars(lane(busy=[(50.0, 50.01)]), Axis(0.0, 100.0, 0.0, 100.0), 0.0, 16.0)
    assert area.polygons


@pytest.mark.parametrize("target", [ONE, TWO])
def test_every_stage_and_memory_has_a_lane(target: str) -> None:
    plan = planned(target)
    scene = drawn(plan, speeds_of(load(target)))
    found = texts(scene)
    for block in plan.blocks:
        for stage in block.stages:
            assert stage.name in found
    assert "HBM queue" in found
    assert ("peer link" in found) == (target == TWO)
    check_layout(scene)


def test_an_iteration_and_the_token() -> None:
    plan = decoder(Decoder(layers=8))
    scene, counted = drawn(plan, SN40L), simulate(plan, SN40L)
    found = texts(scene)
    assert any(text.startswith("layer, iteration 5 of 8: ") for text in found)
    assert any(text.startswith("The whole token: ") for text in found)
    assert found.count("HBM queue") == 2
    assert found.count("head.matrix") == 1, "not in the layers' iteration"
    (use,) = (use for use in counted.stages if use.stage == "gate_up")
    assert f"{use.busy_cycles / counted.cycles:.1%}" in found
    assert "9 gate_up" in found, "what the memory is read for"
    check_layout(scene)
