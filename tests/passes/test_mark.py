"""Marks at known points, monotone along sizes, and crossovers checked on both sides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetc import targets
from hetc.passes.cost import Work, phase_costs, program_costs
from hetc.passes.mark import LIMITS, SIZES, mark_of, mark_op
from hetc.passes.op_times import Times, op_times
from hetc.passes.workload import PHASES, Phase, Workload
from tests.passes.toy_llama import LLAMA_8B, forward, program

COSTS = program_costs(program(LLAMA_8B))
TARGETS = ("h200", "sn40l", "sn40l:8", "h200:4", "grid-8x8")


def work(phase: Phase, name: str) -> Work:
    (found,) = [cost.work for cost in COSTS[phase] if cost.name == name]
    return found


def times(compute: float, memory: float, link: float, latency: float) -> Times:
    return Times(compute_s=compute, state_s=memory, link_s=link, launch_s=latency)


def test_the_largest_time_is_the_mark() -> None:
    assert mark_of(times(2.0, 1.0, 0.5, 1.9)) == "compute"
    assert mark_of(times(1.0, 2.0, 0.5, 1.9)) == "memory"
    assert mark_of(times(1.0, 1.5, 2.0, 1.9)) == "link"
    assert mark_of(times(1.0, 1.5, 1.8, 1.9)) == "latency"
    assert mark_of(Times()) == "free"
    assert times(2.0, 1.0, 0.5, 0.25).seconds == 2.75


def test_prefill_is_compute_and_decode_is_memory() -> None:
    workload = Workload(1, 512, 128)
    target = targets.load("h200")
    for phase, mark in (("prefill", "compute"), ("decode", "memory")):
        assert phase in PHASES
        found = mark_op(
            work(phase, "layers.0.mlp.up_proj"), target, phase, workload.bindings(phase)
        )
        assert found.kind == mark
        assert (found.intensity > found.ridge) == (mark == "compute")


def test_times_follow_the_target() -> None:
    target = targets.load("h200")
    up = work("decode", "layers.0.mlp.up_proj")
    amounts = up.at({"B": 1, "T": 1, "P": 512})
    times = op_times(up, amounts, target)
    assert times.memory_s == pytest.approx(amounts.bytes_moved / (4.8e12 * 0.8))
    assert times.compute_s == pytest.approx(amounts.flops / target.rate("bf16"))
    assert times.latency_s == pytest.approx(4e-6)
    assert times.link_s == 0.0


def test_a_machine_of_several_pays_for_its_all_reduces_only() -> None:
    target = targets.load("h200:4")
    bindings = {"B": 1, "T": 1, "P": 512}
    down, up = work("decode", "layers.0.mlp.down_proj"), work("decode", "layers.0.mlp.up_proj")
    expected = target.all_reduce_us(4096 * 2) * 1e-6
    assert op_times(down, down.at(bindings), target).link_s == pytest.approx(expected)
    assert op_times(up, up.at(bindings), target).link_s == 0.0


def test_a_fused_op_moves_bytes_only_alone() -> None:
    target = targets.load("h200")
    add = work("decode", "layers.0/add")
    amounts = add.at({"B": 1, "T": 1, "P": 512})
    assert op_times(add, amounts, target).memory_s == 0.0
    assert op_times(add, amounts, target, alone=True).memory_s > 0.0


def test_every_sequence_after_the_first_costs_attention_a_constant() -> None:
    target = targets.load("sn40l")
    attention = work("decode", "layers.0.self_attn/attention")
    one, three = (attention.at({"B": b, "T": 1, "P": 64}) for b in (1, 3))
    more = op_times(attention, three, target).latency_s - op_times(attention, one, target).latency_s
    assert more == pytest.approx(2 * target.device.constant("sequence_us") * 1e-6)


HEAVY = {
    phase: list({id(c.work): c.work for c in COSTS[phase] if c.work.launches}.values())
    for phase in PHASES
}


@given(
    phase=st.sampled_from(PHASES),
    which=st.integers(0, 100),
    name=st.sampled_from(TARGETS),
    prompt=st.integers(1, 4000),
    batch=st.integers(1, 300),
)
def test_crossovers_hold_on_both_sides(
    phase: Phase, which: int, name: str, prompt: int, batch: int
) -> None:
    item = HEAVY[phase][which % len(HEAVY[phase])]
    target = targets.load(name)
    bindings = Workload(batch, prompt, 16).bindings(phase)
    mark = mark_op(item, target, phase, bindings)
    symbols = {size: symbol for symbol, size in SIZES[phase].items()}
    for crossover in mark.crossovers:
        symbol = symbols[crossover.size]

        def at(number: int, symbol: str = symbol) -> str:
            sizes = {**bindings, symbol: number}
            return mark_of(op_times(item, item.at(sizes), target, alone=True))

        assert abs(crossover.at - crossover.until) == 1
        assert at(crossover.until) == mark.kind
        assert at(crossover.at) == crossover.mark != mark.kind
        assert 0 <= crossover.at <= LIMITS[crossover.size]
    flipped = {(c.size, c.at > bindings[symbols[c.size]]) for c in mark.crossovers}
    assert len(flipped) == len(mark.crossovers), "one in each direction"


@given(name=st.sampled_from(TARGETS[:2]), low=st.integers(1, 5000), more=st.integers(1, 5000))
def test_more_tokens_move_a_product_from_memory_to_compute(name: str, low: int, more: int) -> None:
    order = ["latency", "memory", "compute"]
    up, target = work("prefill", "layers.0.mlp.up_proj"), targets.load(name)
    marks = [mark_op(up, target, "prefill", {"B": 1, "S": s}).kind for s in (low, low + more)]
    assert order.index(marks[0]) <= order.index(marks[1])


def test_no_crossover_where_nothing_flips() -> None:
    norm = next(c.work for c in phase_costs(forward(), "prefill") if c.kind == "rms_norm")
    big = mark_op(norm, targets.load("sn40l"), "prefill", {"B": 64, "S": 4096})
    assert big.kind == "memory"
    assert not [c for c in big.crossovers if c.at > c.until]
