"""A timeline tells the same cycles as the simulation, one by one."""

from __future__ import annotations

import numpy as np
import pytest

from hetc.backends.dataflow.schema import Plan
from hetc.backends.dataflow.simulate import Speeds, simulate, speeds_of, timeline
from hetc.backends.dataflow.simulate.timeline import LINK, STATES, Lane
from hetc.targets import load
from tests.backends.dataflow.planned import ONE, TWO, planned
from tests.backends.dataflow.plans import Decoder, decoder
from tests.backends.dataflow.simulate.sn40l import SN40L


def cycles(lane: Lane, state: str, end: float) -> float:
    """What a lane spends in a state, of the time from 0 to `end`."""
    (spans,) = (spans for name, spans in lane.spans.items() if name == state)
    inside = np.minimum(spans[:, 1], end) - np.maximum(spans[:, 0], 0.0)
    return float(np.sum(inside))


PLANS: dict[str, tuple[Plan, Speeds]] = {
    "decoder": (decoder(Decoder(layers=4)), SN40L),
    "decoder, launched": (decoder(Decoder(layers=4, launch_us=2.0, overlap=False)), SN40L),
    "decoder, not prefetched": (decoder(Decoder(layers=4, token_prefetch=False)), SN40L),
}


@pytest.mark.parametrize("name", [*PLANS, ONE, TWO])
def test_it_adds_up_to_what_the_simulation_counts(name: str) -> None:
    plan, speeds = PLANS.get(name) or (planned(name), speeds_of(load(name)))
    told, counted = timeline(plan, speeds), simulate(plan, speeds, tokens=4)
    assert told.cycles == pytest.approx(counted.cycles)
    lanes = {lane.name: lane for lane in told.lanes}
    for use in counted.stages:
        found = {state: cycles(lanes[use.stage], state, told.cycles) for state in STATES}
        assert found["busy"] == pytest.approx(use.busy_cycles, abs=0.1)
        assert found["starved"] == pytest.approx(use.starved_cycles, abs=0.1)
        assert found["stalled"] == pytest.approx(use.stalled_cycles, abs=0.1)
    for queue in counted.queues:
        busy = cycles(lanes[queue.tier], "busy", told.cycles)
        assert busy == pytest.approx(queue.busy_cycles, abs=0.1)
    assert cycles(lanes[LINK], "busy", told.cycles) == pytest.approx(counted.link_busy_cycles)


def test_spans_are_in_order_and_do_not_overlap() -> None:
    for lane in timeline(*PLANS["decoder"]).lanes:
        for spans in lane.spans.values():
            assert np.all(spans[:, 1] > spans[:, 0])
            assert np.all(spans[1:, 0] >= spans[:-1, 1] - 1e-3)


def test_the_iteration_is_one_in_the_middle_of_the_layers() -> None:
    plan, speeds = decoder(Decoder(layers=8)), SN40L
    told, counted = timeline(plan, speeds), simulate(plan, speeds)
    iteration = told.iteration
    assert iteration is not None
    assert (iteration.block, iteration.number) == ("layer", 4)
    (layer,) = (use for use in counted.blocks if use.block == "layer")
    length = iteration.end - iteration.begin
    assert length == pytest.approx(layer.cycles / layer.iterations, rel=0.05)
    works = {lane.name for lane in told.lanes if lane.within(iteration.begin, iteration.end)}
    assert "gate_up" in works
    assert "head.matrix" not in works


def test_what_a_memory_works_for() -> None:
    told = timeline(*PLANS["decoder"])
    (hbm,) = (lane for lane in told.lanes if lane.name == "hbm")
    layers = [work.what for work in hbm.work if work.what == "w.down"]
    assert len(layers) >= 4
    assert all(work.end > 0 and work.begin < told.cycles for work in hbm.work)
    (link,) = (lane for lane in told.lanes if lane.name == LINK)
    assert {work.what for work in link.work} == {"reduce1", "reduce2"}


def test_a_plan_without_a_loop_has_no_iteration() -> None:
    assert timeline(*PLANS["decoder"]).iteration is not None
    assert timeline(planned(ONE), speeds_of(load(ONE))).iteration is None
