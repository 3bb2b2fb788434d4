"""Predictions: by pen and paper on the fictional grid, monotone, and the sum of their parts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetc import targets
from hetc.errors import HetcError
from hetc.passes.cost import program_costs
from hetc.passes.op_times import occupancy, op_times
from hetc.passes.precision import Precision, items_of, parse_precision, state_bytes, weight_bytes
from hetc.passes.predict import Prediction, predict_phase
from hetc.passes.workload import PHASES, Phase, Workload
from hetc.targets import Target
from tests.passes.toy_llama import LLAMA_8B, Shape, program

TOY = program_costs(program(Shape(hidden=1024, heads=8, groups=2, inner=2048, vocab=4096)))
BIG_PROGRAM = program(LLAMA_8B)
BIG = program_costs(BIG_PROGRAM)
NAMES = ("h100", "h200:4", "sn40l:8", "wormhole", "grid-8x8", "grid-8x8:4")


def predicted(name: str, batch: int, prompt: int, new: int) -> Prediction:
    return on(targets.load(name), batch, prompt, new)


def on(target: Target, batch: int, prompt: int, new: int) -> Prediction:
    workload = Workload(batch, prompt, max(1, new - 1))
    prefill, decode = (
        predict_phase(items_of(BIG[phase], Precision()), phase, workload, target)
        for phase in PHASES
    )
    return Prediction(prefill, decode, batch, new)


def test_a_step_by_pen_and_paper() -> None:
    """The toy on grid-8x8: f32 weights at 64 GB/s, a section that loops over the layers."""
    costs = TOY["decode"]
    found = predict_phase(
        items_of(costs, Precision()), "decode", Workload(1, 512, 1), targets.load("grid-8x8")
    )
    # A layer: q and o 1024 x 1024, k and v 1024 x 256, three of 1024 x 2048, two norms of 1024.
    layer = 2 * 1024 * 1024 + 2 * 1024 * 256 + 3 * 1024 * 2048 + 2 * 1024
    # Two of them, the last norm, the head of 4096 rows, and one row of the table.
    weights = 4 * (2 * layer + 1024 + 4096 * 1024 + 1024)
    # Keys and values of two groups of 128, for 512 past rows and the new one.
    state = 4 * 2 * 2 * 2 * 128 * 513
    assert found.effects.weights_s == pytest.approx(weights / 64e9, rel=1e-3)
    assert found.effects.state_s == pytest.approx(state / 64e9)
    # Ten stages a layer, the last norm, the head and the table, 0.05 us each.
    assert found.effects.launch_s == pytest.approx(23 * 0.05e-6)
    assert found.effects.step_s == pytest.approx(5e-6), "one section"
    assert found.effects.all_reduce_s == found.effects.sequence_s == 0.0
    assert found.mbu == pytest.approx((weights + state) / 64e9 / found.seconds, rel=1e-3)


def test_two_all_reduces_a_layer() -> None:
    target = targets.load("grid-8x8:4")
    found = predict_phase(items_of(TOY["decode"], Precision()), "decode", Workload(1, 8, 1), target)
    assert found.effects.all_reduce_s == pytest.approx(4 * target.all_reduce_us(4096) * 1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("phase", PHASES)
def test_the_sum_of_the_ops_and_of_the_effects_are_one(name: str, phase: Phase) -> None:
    target, workload = targets.load(name), Workload(3, 300, 1)
    bindings = workload.bindings(phase)
    ops = sum(
        op_times(cost.work, cost.work.at(bindings), target).seconds for cost in BIG[phase].ops
    )
    found = predict_phase(items_of(BIG[phase], Precision()), phase, workload, target)
    assert found.seconds == pytest.approx(ops + found.effects.step_s)
    assert found.seconds == pytest.approx(sum(seconds for _, seconds in found.effects))


def test_decode_is_the_mean_over_the_new_tokens() -> None:
    target, steps = targets.load("h100"), 96
    found = predict_phase(
        items_of(BIG["decode"], Precision()), "decode", Workload(1, 100, steps), target
    )
    each = [
        sum(
            op_times(cost.work, cost.work.at({"B": 1, "T": 1, "P": 100 + step}), target).seconds
            for cost in BIG["decode"].ops
        )
        for step in range(steps)
    ]
    assert found.seconds == pytest.approx(sum(each) / steps, rel=1e-3)


@given(
    name=st.sampled_from(NAMES),
    batch=st.integers(1, 128),
    prompt=st.integers(1, 4000),
    new=st.integers(1, 2000),
    more=st.integers(1, 500),
)
def test_more_of_anything_takes_no_less(
    name: str, batch: int, prompt: int, new: int, more: int
) -> None:
    made = predicted(name, batch, prompt, new)
    larger, longer, further = (
        predicted(name, batch + more, prompt, new),
        predicted(name, batch, prompt + more, new),
        predicted(name, batch, prompt, new + more),
    )
    least = 1 - 1e-9
    assert larger.ttft_s >= made.ttft_s * least
    assert larger.tpot_s >= made.tpot_s * least
    assert longer.ttft_s >= made.ttft_s * least
    assert longer.tpot_s >= made.tpot_s * least
    assert further.total_s >= made.total_s * least
    assert further.ttft_s == made.ttft_s
    assert 0 < made.mbu <= 1
    assert 0 < made.mfu <= 1
    phase, _, effect = made.bottleneck.partition(" ")
    assert phase in PHASES
    assert effect in dict(made.prefill.effects)


def test_a_pair_takes_the_phases_of_its_devices() -> None:
    gpu, flow = predicted("h100", 1, 2000, 128), predicted("sn40l:8", 1, 2000, 128)
    pair = Prediction(gpu.prefill, flow.decode, 1, 128)
    assert pair.total_s <= max(gpu.total_s, flow.total_s)
    assert (pair.ttft_s, pair.tpot_s) == (gpu.ttft_s, flow.tpot_s)
    waits = replace(pair, handoff_s=0.5)
    assert waits.total_s == pytest.approx(pair.total_s + 0.5)
    assert replace(waits, new_tokens=1).total_s == pair.ttft_s, "one token needs no decode"
    assert replace(waits, handoff_s=1e6).bottleneck == "hand-off"


def test_tiles_and_waves_by_hand() -> None:
    h100 = targets.load("h100")
    (up,) = [cost.work for cost in BIG["decode"] if cost.name == "layers.0.mlp.up_proj"]

    def used(batch: int, target: Target = h100) -> float:
        return occupancy(up, up.at({"B": batch, "T": 1, "P": 1}), target)

    # 14336 columns are 112 tiles of 128, in one wave of 132 multiprocessors.
    assert used(128) == pytest.approx(112 / 132)
    assert used(64) == pytest.approx(112 / 132), "tiles of 64 rows"
    assert used(100) == pytest.approx(100 / 128 * 112 / 132)
    assert used(256) == pytest.approx(224 / 264), "two rows of tiles, two waves"
    assert used(9) == pytest.approx(9 / 16 * 112 / 132)
    # Four devices have 28 tiles each.
    assert used(128, targets.load("h100:4")) == pytest.approx(28 / 132)
    assert used(1) == used(1, targets.load("grid-8x8")) == used(7, targets.load("sn40l")) == 1.0


def test_attention_is_limited_by_the_blocks_that_stream_it() -> None:
    """32 query heads on 8 groups of 128: a block reads 512 B a token, at 54 GB/s."""
    h100 = targets.load("h100")
    (attention,) = [
        cost.work for cost in BIG["decode"] if cost.name.startswith("layers.0") and cost.work.heads
    ]

    def seconds(batch: int, target: Target = h100) -> float:
        return op_times(attention, attention.at({"B": batch, "T": 1, "P": 999}), target).state_s

    one = 1000 * 512 / 54e9
    assert seconds(1) == pytest.approx(one), "32 blocks on 132 multiprocessors"
    assert seconds(4) == pytest.approx(one), "128 blocks"
    assert seconds(64) == pytest.approx(one * 64 * 32 / 132)
    split = h100.calibrate("tensorrt-llm").device
    wide = {
        **split.constants,
        "head_bandwidth": replace(split.constants["head_bandwidth"], value=1e12),
    }
    fast = Target(replace(split, constants=wide))
    assert seconds(64, fast) == pytest.approx(64 * 1000 * 4096 / (0.8 * 3.35e12)), "bandwidth"
    # Groups of 8 queries share a block where a quarter of the multiprocessors get one.
    eight = replace(attention, kv_heads=4)
    for batch, blocks in ((8, 8 * 32), (9, 9 * 4)):
        amounts = eight.at({"B": batch, "T": 1, "P": 999})
        head = 1000 * 1024 / 54e9
        expected = max(head * max(1.0, blocks / 132), amounts.state_bytes / (0.8 * 3.35e12))
        assert op_times(eight, amounts, h100).state_s == pytest.approx(expected)


@pytest.mark.parametrize(("section", "calls"), [("op", 23), ("layer", 2), ("step", 1)])
def test_a_section_is_called_for_every_op_layer_or_step(section: str, calls: int) -> None:
    device = replace(targets.load("grid-8x8").device, section=section)  # type: ignore[arg-type]
    found = predict_phase(
        items_of(TOY["decode"], Precision()), "decode", Workload(1, 8, 1), Target(device)
    )
    fixed = found.effects.launch_s + found.effects.step_s
    assert fixed == pytest.approx(23 * 0.05e-6 + calls * 5e-6)


def test_formats_scale_bytes_and_choose_the_rate() -> None:
    h100, workload = targets.load("h100"), Workload(1, 100, 1)
    plain, narrow = (
        predict_phase(items_of(BIG["decode"], parse_precision(*given)), "decode", workload, h100)
        for given in (((), ""), (("f8",), "f8"))
    )
    assert narrow.effects.state_s == pytest.approx(plain.effects.state_s / 2)
    assert narrow.effects.weights_s == pytest.approx(plain.effects.weights_s / 2, rel=1e-3)
    assert narrow.ideal_compute_s == pytest.approx(plain.ideal_compute_s / 2, rel=0.01)
    total = 2 * 8030261248
    assert weight_bytes(BIG, Precision()) == pytest.approx(total)
    mixed = parse_precision(("bfp8", "*.mlp.*=bfp4"), "bfp8")
    mlp = 32 * 3 * 4096 * 14336
    table = norms = 128256 * 4096
    kept = 2 * (table + 65 * 4096)
    rest = 8030261248 - mlp - norms - 65 * 4096
    expected = kept + mlp * 4.5 / 8 + rest * 8.5 / 8
    assert weight_bytes(BIG, mixed) == pytest.approx(expected)
    plain_state, narrow_state = (
        state_bytes(BIG_PROGRAM, 3, 50, precision) for precision in (Precision(), mixed)
    )
    assert plain_state == 3 * 50 * 32 * 2 * 8 * 128 * 2
    assert narrow_state == pytest.approx(plain_state * 8.5 / 16)


@pytest.mark.parametrize("text", ["f9", "*.mlp.*=", "=f8", "f8=x y"])
def test_formats_that_there_are_not(text: str) -> None:
    with pytest.raises(HetcError, match=r"HETC-(T012|U010)"):
        parse_precision([text])
