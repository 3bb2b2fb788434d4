"""Every factor of every rule is true: the op on parts gives the parts of its results."""

from __future__ import annotations

import pytest

from hetc.ir.interpret import interpret, no_weights
from hetc.ir.lockstep import interpret_lockstep
from hetc.ir.text import parse
from hetc.ir.types import Array
from hetc.passes.shard import Shard
from hetc.passes.shard_classes import Holder
from hetc.passes.shard_factors import factors
from hetc.passes.shard_forms import LocalWeights
from hetc.passes.shard_plan import Cut, Plan
from hetc.passes.shard_rewrite import rewrite
from tests.passes.harness import assert_close, random_input

# Inputs, op, and how many ways there are to cut it in two.
CASES = [
    ("%x: f32[4,6], %y: f32[6]", "add %x, %y", 2),
    ("%x: f32[4,1], %y: f32[1,6]", "mul %x, %y", 2),
    ("%x: f32[4,6], %y: f32[4,6]", "gated %x, %y", 2),
    ("%x: f32[4,6]", "cast %x {dtype = bf16}", 2),
    ("%c: bool[4,1], %x: f32[4,6]", "where %c, %x, 0.5", 2),
    ("%x: f32[2,4,6,8], %c: f32[6,8], %s: f32[6,8]", "rope %x, %c, %s", 3),
    ("%x: f32[4,6], %w: f32[8,6], %b: f32[8]", "linear %x, %w {bias = %b}", 3),
    ("%x: f32[2,4,6], %w: f32[8,6]", "linear %x, %w", 4),
    ("%x: f32[4,6], %w: f32[4,8,6], %i: i64[4]", "expert_linear %x, %w, %i", 3),
    (
        "%x: f32[4,6], %w: f32[4,6,8], %i: i64[4], %b: f32[4,8]",
        "expert_linear %x, %w, %i {bias = %b, transposed}",
        3,
    ),
    ("%x: f32[2,4,6], %y: f32[2,6,8]", "matmul %x, %y", 4),
    ("%x: f32[2,4,6], %y: f32[6,8]", "matmul %x, %y", 4),
    ("%q: f32[2,4,3,8], %k: f32[2,4,5,8], %v: f32[2,4,5,8]", "attention %q, %k, %v {causal}", 1),
    (
        "%q: f32[1,4,3,8], %k: f32[1,2,5,8], %v: f32[1,2,5,8], %m: f32[4,3,5], %s: f32[4]",
        "attention %q, %k, %v {mask = %m, sinks = %s, slopes = %s}",
        1,
    ),
    ("%x: f32[4,6]", "reshape %x {shape = [4, 2, 3]}", 2),
    ("%x: f32[4,2,3]", "reshape %x {shape = [4, 6]}", 2),
    ("%x: f32[2,6,4]", "reshape %x {shape = [12, 4]}", 2),
    ("%x: f32[2,4,6]", "transpose %x {perm = [2, 0, 1]}", 3),
    ("%x: f32[4,1]", "broadcast %x {shape = [2, 4, 6]}", 3),
    ("", "full {value = 2.0, shape = [4, 6]}", 2),
    ("%x: f32[2,6,4], %y: f32[2,3,4]", "kv_append %x, %y {axis = 1}", 2),
    ("%x: f32[2,6,4]", "keep_last %x {axis = 1, rows = 3}", 2),
    ("%x: f32[4,6]", "rms_norm %x", 1),
    ("%x: f32[4,6], %w: f32[6]", "layer_norm %x {weight = %w, bias = %w}", 1),
    ("%x: f32[4,6]", "softmax %x {axis = -1}", 1),
    ("%x: f32[4,6]", "log_softmax %x {axis = 0}", 1),
    ("%x: f32[4,6]", "cumsum %x {axis = 0}", 1),
    ("%x: f32[4,6]", "sort %x {axis = 1}", 1),
    ("%x: f32[4,6]", "topk %x {k = 2}", 1),
    ("%x: f32[4,6,2]", "flip %x {axes = [1]}", 2),
    ("%x: f32[2,4,6]", "sum %x {axes = [1]}", 3),
    ("%x: f32[2,4,6]", "sum %x {axes = [-1], keepdim}", 3),
    ("%x: f32[2,4,6]", "mean %x {axes = [0, 1]}", 1),
    ("%x: f32[2,4,6]", "reduce_max %x {axes = [1], keepdim}", 2),
    ("%x: f32[4,12]", "slice %x {axis = 1, start = 4, stop = 8}", 2),
    ("%x: f32[4,12]", "slice %x {axis = 1, start = 1, stop = 12, step = 2}", 2),
    ("%x: f32[4,12]", "slice %x {axis = 1, start = 1, stop = 5}", 1),
    ("%x: f32[4,12]", "slice %x {axis = 1, stop = 12, step = 5}", 1),
    ("%x: f32[4,12]", "split %x {axis = 1, sizes = [4, 4, 4]}", 2),
    ("%x: f32[4,12]", "split %x {axis = 1, sizes = [8, 4]}", 1),
    ("%x: f32[4,6], %y: f32[4,6]", "concat [%x, %y] {axis = 1}", 2),
    ("%x: f32[4,6], %y: f32[4,2]", "concat [%x, %y] {axis = 1}", 1),
    ("%x: f32[4,6]", "pad %x {low = [0, 1], high = [0, 0]}", 1),
    ("%x: f32[4,6]", "tile %x {repeats = [1, 2]}", 1),
    ("%x: f32[8,6], %i: i64[2,4]", "embedding %x, %i", 3),
    ("%x: f32[4,6,2], %i: i64[2,4]", "gather %x, %i {axis = 1}", 4),
    (
        "%x: f32[2,4,5], %w: f32[4,1,3], %b: f32[4], %h: f32[2,4,2]",
        "conv1d_causal %x, %w {bias = %b, history = %h, groups = 4}",
        1,
    ),
    ("%x: f32[2,4,5], %w: f32[6,4,3]", "conv1d_causal %x, %w", 0),
    ("%x: f32[2,5,4], %d: f32[2,5,4], %h: f32[2,4]", "scan %x, %d {initial = %h, axis = 1}", 2),
    ("%x: i8[4,8], %s: f32[4,4]", "dequantize %x, %s {group = 2}", 2),
    ("%x: i8[4,8], %s: f32[4,1]", "dequantize %x, %s {group = 8}", 1),
    ("%x: f32[4,6], %i: i64[4,2]", "take_along %x, %i {axis = 1}", 0),
]


@pytest.mark.parametrize(("inputs", "line", "count"), CASES, ids=[line for _, line, _ in CASES])
def test_an_op_on_parts(inputs: str, line: str, count: int) -> None:
    names = "%0, %1" if line.split()[0] in ("sort", "topk", "scan") else "%0"
    if line.startswith("split"):
        names = ", ".join(f"%{i}" for i in range(line.count(",")))
    graph = parse(f"graph @g({inputs}) {{ {names} = {line} return {names} }}")
    (op,) = graph.ops
    arrays = [random_input(value, {}, seed) for seed, value in enumerate(graph.inputs)]
    expected = interpret(graph, arrays)
    found = factors(op)
    assert len(found) == count
    for factor in found:
        places = (*factor.places, *factor.fewer)
        cuts: dict[Holder, Cut] = {
            place.value: Cut(place.axis, 2, place.groups) for place in places
        }
        plan = Plan(cuts, {op: factor}, {})
        inputs_cut = [cuts.get(value) for value in graph.inputs]
        local = rewrite(graph, plan, {}, LocalWeights(), inputs_cut, {})
        results = interpret_lockstep(
            local.graph,
            [
                [part(array, cut, rank) for array, cut in zip(arrays, inputs_cut, strict=True)]
                for rank in range(2)
            ],
            [no_weights] * 2,
        )
        for rank, outputs in enumerate(results):
            for whole, cut, output in zip(expected, local.outputs, outputs, strict=True):
                assert_close(part(whole, cut, rank), output, 2e-5)
        assert factor.summed == any(op.kind == "all_reduce" for op in local.graph.ops)


def part(array: Array, cut: Cut | None, rank: int) -> Array:
    return Shard("", cut.axis, cut.parts, cut.groups).of(array, rank, 2) if cut else array


def test_what_has_no_known_size_is_not_cut() -> None:
    graph = parse("graph @g(%x: f32[B,4]) { %0 = reshape %x {shape = [4*B]} return %0 }")
    assert factors(graph.ops[0]) == []
