"""Flops and bytes by hand, by origin, and in total."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetc.errors import PartitionError
from hetc.ir.dims import evaluate, symbol
from hetc.ir.graph import Graph, GraphBuilder, substitute_dims
from hetc.ir.ops.index import TopK
from hetc.ir.ops.linear import ExpertLinear, Linear
from hetc.ir.ops.quant import Dequantize
from hetc.ir.ops.reduce import Softmax
from hetc.ir.ops.shape import Reshape
from hetc.ir.ops.source import Weight
from hetc.ir.types import BF16, F32, I8, TensorType
from hetc.passes.cost import Experts, OpCost, PhaseCosts, phase_costs, program_costs
from hetc.passes.outline_layers import outline_layers
from hetc.passes.workload import PHASES, Workload
from tests.passes.toy_llama import LLAMA_8B, Shape, forward, program

B, S = symbol("B"), symbol("S")
TOY = program_costs(program())


def named(costs: PhaseCosts, name: str) -> OpCost:
    (found,) = [cost for cost in costs if cost.name == name]
    return found


def test_a_linear_by_hand() -> None:
    decode = TOY["decode"]
    down = named(decode, "layers.1.mlp.down_proj")
    amounts = down.work.at({"B": 3, "T": 2, "P": 7})
    assert amounts.flops == 2 * 3 * 2 * 128 * 64
    assert amounts.weight_bytes == 128 * 64 * 4
    assert amounts.activation_bytes == 3 * 2 * 128 * 4
    assert amounts.bytes_written == 3 * 2 * 64 * 4
    assert amounts.intensity == amounts.flops / (amounts.bytes_read + amounts.bytes_written)
    assert (down.kind, down.work.launches, down.work.fused, down.work.matrix) == (
        *("linear", True, False),
        True,
    )
    assert down.weights == {"layers.1.mlp.down_proj.weight"}


def test_attention_reads_its_state_once_and_grouped() -> None:
    decode = TOY["decode"]
    attention = named(decode, "layers.0.self_attn/attention")
    amounts = attention.work.at({"B": 1, "T": 1, "P": 99})
    # Keys and values of two groups of 16, for 99 past rows and the new one.
    assert amounts.state_bytes == 2 * 2 * 16 * 100 * 4
    assert amounts.weight_bytes == 0
    assert attention.states == {"layer0.key", "layer0.value"}
    assert amounts.flops == 4 * 100 * (2 * 32 + 2 * 6)


def test_prefill_attention_counts_the_causal_half() -> None:
    prefill = TOY["prefill"]
    attention = named(prefill, "layers.0.self_attn/attention")
    flops = attention.work.at({"B": 1, "S": 100}).flops
    assert flops == 4 * (100 * 101) * (32 + 6)


def test_the_step_reads_every_weight_once() -> None:
    made = program(LLAMA_8B)
    decode = program_costs(made)["decode"]
    bindings = Workload(1, 512, 128).bindings("decode")
    read = sum(cost.work.at(bindings).weight_bytes for cost in decode if not cost.work.fused)
    # 8.03 G parameters, less the embedding table, of which one row is read.
    stored = 2 * (8030261248 - 128256 * 4096)
    assert read == pytest.approx(stored, rel=1e-4)


def test_names_are_unique_and_those_of_the_modules() -> None:
    for costs in TOY.values():
        names = [cost.name for cost in costs]
        assert len(set(names)) == len(names)
        assert {"embed", "lm_head", "layers.0.self_attn.q_proj", "layers.1/add.2"} <= set(names)


def test_equal_layers_share_their_work() -> None:
    costs = program_costs(program(Shape(layers=6)))["decode"]
    works = {id(cost.work) for cost in costs if cost.name.endswith("mlp.up_proj")}
    assert len(works) == 1


def test_calls_cost_what_their_ops_cost_under_the_names_of_their_layers() -> None:
    graph = forward(Shape(layers=4))
    outlined = outline_layers(graph)
    assert any(op.kind == "call" for op in outlined.ops)
    flat, called = (phase_costs(g, "prefill") for g in (graph, outlined))
    at = {"B": 2, "S": 5}

    def totals(costs: PhaseCosts) -> dict[str, tuple[float, float]]:
        heavy = [cost for cost in costs if cost.work.launches]
        amounts = {cost.name: cost.work.at(at) for cost in heavy}
        return {name: (item.flops, item.bytes_moved) for name, item in amounts.items()}

    assert totals(called) == totals(flat)


def test_two_all_reduces_a_layer() -> None:
    for costs in program_costs(program(Shape(layers=3))).values():
        reduced = [cost.name for cost in costs if cost.work.reduced_bytes != 0]
        expected = [
            f"layers.{n}.{op}" for n in range(3) for op in ("self_attn.o_proj", "mlp.down_proj")
        ]
        assert sorted(reduced) == sorted(expected)


def test_views_are_free_and_elementwise_ops_are_fused() -> None:
    decode = TOY["decode"]
    assert named(decode, "layers.0.self_attn/transpose").work.is_free
    add = named(decode, "layers.0/add").work
    assert (add.fused, add.launches, add.is_free) == (True, False, False)
    append = named(decode, "layers.0.self_attn/kv_append").work
    assert (append.fused, append.launches) == (False, False)
    assert append.at({"B": 1, "T": 1, "P": 900}).bytes_written == 2 * 16 * 4, "only the new row"


def test_a_dequantized_weight_is_read_as_it_is_stored() -> None:
    made = GraphBuilder("g")
    x = made.input("x", TensorType(F32, (B, 64)))
    stored = Weight("w", TensorType(I8, (32, 64)))
    scale = Weight("w.scale", TensorType(F32, (32, 2)))
    wide = Dequantize(stored.result, scale.result, group=32)
    graph = made.finish([made.add(Linear(x, wide.result, loc="fc"))])
    cost = named(phase_costs(graph, "decode"), "fc")
    assert cost.work.weight_bytes == 32 * 64 + 32 * 2 * 4
    assert cost.weights == {"w", "w.scale"}


def experts_graph(picks: int) -> Graph:
    made = GraphBuilder("g")
    x = made.input("x", TensorType(BF16, (B * S * picks, 64)))
    scores = made.input("scores", TensorType(F32, (B * S, 8)))
    ids = made.add(TopK(Softmax(scores, -1).result, picks))
    flat = Reshape(ids.op.results[1], (B * S * picks,)) if ids.op else None
    assert flat is not None
    weight = Weight("w", TensorType(BF16, (8, 16, 64)))
    return made.finish([made.add(ExpertLinear(x, weight.result, flat.result, loc="experts"))])


@pytest.mark.parametrize("picks", [1, 2, 3])
def test_experts_are_never_more_than_all(picks: int) -> None:
    costs = phase_costs(experts_graph(picks), "prefill")
    work = named(costs, "experts").work
    matrix = 16 * 64 * 2
    assert work.at({"B": 1, "S": 1}).weight_bytes == pytest.approx(picks * matrix)
    assert work.at({"B": 1, "S": 10_000}).weight_bytes == pytest.approx(8 * matrix)
    few = work.at({"B": 1, "S": 3}).weight_bytes
    assert picks * matrix < few < min(3 * picks, 8) * matrix
    assert evaluate(work.weight_bytes, {"B": 1, "S": 3}) == 3 * picks * matrix, "one a row at most"


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 500))
def test_expected_experts_grow_with_tokens(count: int, picks: int, tokens: int) -> None:
    rows = symbol("S") * picks
    experts = Experts(count, picks, rows, 1.0)
    now, more = (experts.bytes_at({"S": number}) for number in (tokens, tokens + 1))
    assert min(picks, count) - 1e-9 <= now <= more + 1e-9 <= count + 2e-9


@given(st.integers(1, 400), st.integers(1, 40).map(lambda n: 2 * n - 1))
def test_the_middle_step_costs_the_mean_of_all(prompt: int, new: int) -> None:
    workload = Workload(1, prompt, new)
    work = named(TOY["decode"], "layers.0.self_attn/attention").work
    steps = [work.at({"B": 1, "T": 1, "P": prompt + i}) for i in range(new)]
    middle = work.at(workload.bindings("decode"))
    assert middle.state_bytes == pytest.approx(sum(s.state_bytes for s in steps) / new)
    assert middle.flops == pytest.approx(sum(s.flops for s in steps) / new)


def test_costs_are_polynomials_of_the_sizes() -> None:
    graph = forward()
    double = substitute_dims(graph, {"B": B * 2})
    for one, two in zip(phase_costs(graph, "prefill"), phase_costs(double, "prefill"), strict=True):
        assert one.work.at({"B": 6, "S": 5}) == two.work.at({"B": 3, "S": 5}), one.name


@pytest.mark.parametrize("sizes", [(0, 1, 1, 0), (1, 0, 1, 0), (1, 1, 0, 0), (1, 8, 8, 15)])
def test_a_workload_must_hold_itself(sizes: tuple[int, int, int, int]) -> None:
    with pytest.raises(PartitionError, match="HETC-P004"):
        Workload(*sizes)


def test_executions() -> None:
    workload = Workload(2, 100, 7)
    assert [workload.executions(phase) for phase in PHASES] == [1, 7]
    assert workload.rows == 107
    assert workload.bindings("decode") == {"B": 2, "T": 1, "P": 103}
