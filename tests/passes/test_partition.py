"""Cuts of whole programs: pins, capabilities, memories, hand-off, alternatives, flips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hetc import targets
from hetc.errors import PartitionError, Reason
from hetc.ir.graph import Program
from hetc.passes.cost import program_costs
from hetc.passes.partition import Cut, CutOptions, Granularity, partition
from hetc.passes.partition_flips import Flip
from hetc.passes.partition_layout import ROLES, lay_out
from hetc.passes.partition_many import partition_many
from hetc.passes.partition_rules import Capabilities
from hetc.passes.workload import Workload
from hetc.targets import Target
from tests.golden import Golden
from tests.passes.toy_llama import LLAMA_8B, LLAMA_405B, Shape, program

TOY = program()
SMALL = program(Shape(4, 576, 9, 3, 1536, 49152))
BIG = program(LLAMA_8B)
USUAL = Workload(1, 512, 128)
PHASE_IS_DEVICE = {"prefill:*": "prefill", "decode:*": "decode"}


def cut(
    made: Program,
    prefill: str = "h200",
    decode: str = "sn40l",
    workload: Workload = USUAL,
    pins: dict[str, str] | None = None,
    granularity: Granularity = "op",
    flips: bool = False,
    capabilities: Capabilities | None = None,
) -> Cut:
    return partition(
        made,
        workload,
        {"prefill": targets.load(prefill), "decode": targets.load(decode)},
        targets.load_link("pcie5"),
        options=CutOptions(pins=pins, granularity=granularity, flips=flips),
        capabilities=capabilities,
    )


def test_pinned_phases_hand_over_every_state_once() -> None:
    found = cut(SMALL, pins=PHASE_IS_DEVICE)
    assert {key[0]: role for key, role in found.assignment.items()} == {
        "prefill": "prefill",
        "decode": "decode",
    }
    assert {t.kind for t in found.transfers} == {"handoff"}
    assert {t.name for t in found.transfers} == {spec.name for spec in SMALL.states}
    assert {t.nbytes for t in found.transfers} == {3 * 64 * 512 * 4}
    assert all(t.times == 1 and (t.source, t.destination) == ROLES for t in found.transfers)
    assert found.alternatives["each phase on its own device"] == pytest.approx(found.seconds_total)
    assert (found.gap, found.method) == (0.0, "min-cut")


def test_every_op_has_a_device_and_the_parts_add_up() -> None:
    found = cut(SMALL)
    costs = program_costs(SMALL)
    assert found.assignment.keys() == {(c.phase, c.index) for p in costs.values() for c in p}
    assert sum(found.phase_seconds.values()) == pytest.approx(found.seconds_total)
    assert found.seconds_total <= min(s for s in found.alternatives.values() if s is not None)
    assert found.lower_bound == found.seconds_total


def test_one_device_for_both_phases_needs_no_transfer() -> None:
    found = cut(SMALL, "h200", "h200")
    assert found.transfers == ()
    assert not found.is_split


def test_the_cut_is_within_the_best_of_a_mixed_integer_program() -> None:
    layout = lay_out(TOY, program_costs(TOY), lambda _: frozenset(ROLES))
    machines = [targets.load("h200"), targets.load("sn40l")]
    problem = layout.price(Workload(4, 300, 20), machines, targets.load_link("pcie5"))
    found = cut(TOY, workload=Workload(4, 300, 20))
    assert found.seconds_total == pytest.approx(partition_many(problem).seconds, rel=1e-9)


def test_three_devices() -> None:
    layout = lay_out(TOY, program_costs(TOY), lambda _: frozenset(ROLES))
    machines = [targets.load(name) for name in ("h200", "sn40l", "wormhole")]
    problem = layout.price(Workload(), machines, targets.load_link("pcie5"))
    found = partition_many(problem)
    assert found.assignment is not None
    assert found.gap <= 1e-6
    assert found.seconds <= min(problem.total(problem.uniform(d)) for d in range(3)) + 1e-12


def test_phase_granularity_keeps_phases_whole() -> None:
    for found in (cut(SMALL, granularity="phase"), cut(BIG, "h200:8", granularity="phase")):
        roles = {(key[0], role) for key, role in found.assignment.items()}
        assert len(roles) == 2
        assert found.alternatives["best by op, no pins"] is not None
        assert found.seconds_total >= found.alternatives["best by op, no pins"] - 1e-12


def test_pins_by_glob() -> None:
    found = cut(SMALL, pins={"layers.*.mlp.down_proj": "prefill", "decode:lm_head": "decode"})
    costs = program_costs(SMALL)
    for phase, role in (("prefill", "prefill"), ("decode", "prefill")):
        for cost in costs["prefill" if phase == "prefill" else "decode"]:
            if cost.name.endswith("down_proj"):
                assert found.assignment[cost.phase, cost.index] == role
            if cost.name == "lm_head" and cost.phase == "decode":
                assert found.assignment["decode", cost.index] == "decode"


@pytest.mark.parametrize(
    ("pins", "code"),
    [
        ({"layers.*": "gpu"}, "HETC-P001"),
        ({"layer.*.mlp": "decode"}, "HETC-P001"),
        ({"lm_head": "decode", "*head": "prefill"}, "HETC-P002"),
        ({"decode:*": "prefill", "decode:lm_*": "decode"}, "HETC-P002"),
    ],
)
def test_pins_that_make_no_sense(pins: dict[str, str], code: str) -> None:
    with pytest.raises(PartitionError, match=code):
        cut(TOY, pins=pins)


def test_capabilities_keep_ops_away_and_pins_against_them_are_errors() -> None:
    reason = Reason("HETC-E010", "no template for rms_norm")
    found = cut(SMALL, capabilities={"decode": {"rms_norm": reason}})
    norms = [c for p in program_costs(SMALL).values() for c in p if c.kind == "rms_norm"]
    assert norms
    assert {found.assignment[c.phase, c.index] for c in norms} == {"prefill"}
    with pytest.raises(PartitionError, match="HETC-P003"):
        cut(SMALL, capabilities={"decode": {"rms_norm": reason}}, pins={"norm": "decode"})


def test_no_device_may_run_a_whole_phase() -> None:
    capabilities: Capabilities = {
        "decode": {"rms_norm": Reason("HETC-E010", "no template")},
        "prefill": {"embedding": Reason("HETC-E011", "no gather")},
    }
    with pytest.raises(PartitionError, match="HETC-P003"):
        cut(SMALL, capabilities=capabilities, granularity="phase")


def test_what_no_device_can_run_is_a_fallback() -> None:
    reason = Reason("HETC-E010", "no template")
    found = cut(SMALL, capabilities={role: {"rms_norm": reason} for role in ROLES})
    assert found.seconds_total == pytest.approx(cut(SMALL).seconds_total)


def test_405b_does_not_fit_two_chips(golden: Golden) -> None:
    with pytest.raises(PartitionError) as error:
        cut(program(LLAMA_405B))
    golden("partition_405b.txt", error.value.render())


def test_a_full_memory_moves_layers_and_says_how_good_that_is() -> None:
    roomy = cut(BIG, "h200", "sn40l:2")
    # 16 GB of weights, and 9 + 9 GB of room: on the dataflow chip, half of it behind the HBM.
    small = small_memory("h200", 9e9), small_memory("sn40l", 4.5e9)
    found = partition(
        BIG,
        Workload(1, 512, 128),
        {"prefill": small[0], "decode": small[1]},
        targets.load_link("pcie5"),
        options=CutOptions(flips=False),
    )
    assert found.method == "lagrangian"
    assert all(nbytes <= 9e9 for nbytes in found.held_bytes.values())
    assert sum(found.held_bytes.values()) >= 16e9
    assert roomy.lower_bound <= found.lower_bound <= found.seconds_total
    assert 0 <= found.gap < 0.25
    assert found.alternatives["prefill device only"] is None


def small_memory(name: str, nbytes: float) -> Target:
    device = targets.load(name).device
    memories = tuple(
        replace(m, bytes=replace(m.bytes, value=nbytes)) if m.name == device.main_memory else m
        for m in device.memories
    )
    return Target(replace(device, memories=memories))


def test_a_weight_of_both_phases_is_stored_once_on_a_device() -> None:
    one = cut(BIG, "h200", "h200")
    assert one.held_bytes["prefill"] == pytest.approx(16.06e9 + 640 * 131072, rel=1e-3)
    two = cut(BIG, pins=PHASE_IS_DEVICE)
    # The decode half of sn40l holds the weights again, and the state of the whole context.
    assert two.held_bytes["decode"] == pytest.approx(one.held_bytes["prefill"], rel=1e-6)
    assert two.held_bytes["prefill"] == pytest.approx(16.06e9 + 512 * 131072, rel=1e-3)


def test_no_assignment_found_says_what_is_stored_twice() -> None:
    # Pinned apart, the weights are needed on both.
    memory = small_memory("h200", 17e9), small_memory("sn40l", 8e9)
    with pytest.raises(PartitionError, match="HETC-P011"):
        partition(
            BIG,
            Workload(1, 512, 128),
            {"prefill": memory[0], "decode": memory[1]},
            targets.load_link("pcie5"),
            options=CutOptions(pins=PHASE_IS_DEVICE, flips=False),
        )


def test_flips_are_where_another_cut_wins() -> None:
    found = cut(SMALL, granularity="phase", flips=True)
    assert found.flips
    for flip in found.flips:
        if flip.size == "link_gbps":
            continue
        for number, winner in ((flip.at, flip.winner), (flip.until, flip.present)):
            sizes = {"batch": 1, "prompt_tokens": 512, "new_tokens": 128, flip.size: number}
            again = cut(SMALL, workload=Workload(**sizes), granularity="phase")
            used = set(again.assignment.values())
            assert ("split" if len(used) == 2 else used.pop()) == winner, flip


def test_a_flip_in_words() -> None:
    assert str(Flip("prompt_tokens", "split", 41, 40, "decode")) == (
        "the decode device alone up to 40 prompt tokens"
    )
    assert str(Flip("link_gbps", "decode", 340, 341, "split")) == "both devices from 341 link gbps"


def test_the_same_input_gives_the_same_cut() -> None:
    first, second = cut(BIG, "h200:8", "sn40l:16"), cut(BIG, "h200:8", "sn40l:16")
    assert np.array_equal(first.nodes, second.nodes)
    assert first.transfers == second.transfers


def test_the_layout_has_no_cycle_within_a_phase() -> None:
    layout = lay_out(BIG, program_costs(BIG), lambda _: frozenset(ROLES))
    for net, crossing in zip(layout.nets, layout.crossings, strict=True):
        if crossing.kind == "activation":
            assert all(consumer > net.producer for consumer in net.consumers)
