from __future__ import annotations

import pytest

from hetc import targets
from hetc.backends.dataflow.schema import Plan
from hetc.backends.dataflow.simulate import sensitivity, simulate, speeds_of
from hetc.targets import Target
from tests.backends.dataflow.plans import Decoder, decoder

TARGET = targets.load("sn40l:8")
PLAN = decoder(Decoder())


def replan(target: Target) -> Plan:
    peer = target.device.links["peer"].latency_us.value
    return decoder(Decoder(peer_us=peer, overhead_us=target.device.constant("step_us")))


def test_the_largest_effect_comes_first() -> None:
    found = sensitivity(PLAN, TARGET)
    assert found[0].name == "memory.hbm.bandwidth"
    assert found[1].name == "assumption.bandwidth_fraction"
    effects = [entry.effect_us for entry in found]
    assert effects == sorted(effects, reverse=True)
    assert not any(entry.replanned for entry in found)


def test_both_ends_of_a_range_are_simulated() -> None:
    found = {entry.name: entry for entry in sensitivity(PLAN, TARGET)}
    bandwidth = found["memory.hbm.bandwidth"]
    tpot = simulate(PLAN, speeds_of(TARGET)).tpot_us
    assert bandwidth.tpot_us_at_low == pytest.approx(tpot * 1.8 / 1.6, rel=1e-3)
    assert bandwidth.tpot_us_at_high == pytest.approx(tpot * 1.8 / 2.0, rel=1e-3)


def test_what_a_plan_holds_needs_another_plan() -> None:
    names = {entry.name for entry in sensitivity(PLAN, TARGET)}
    again = {entry.name: entry for entry in sensitivity(PLAN, TARGET, replan=replan)}
    assert names < set(again)
    step = again["assumption.step_us"]
    assert step.replanned
    assert step.tpot_us_at_high > step.tpot_us_at_low
