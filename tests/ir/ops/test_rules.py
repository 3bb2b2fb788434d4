"""What ops refuse, and how costs count."""

from __future__ import annotations

import pytest

from hetc.errors import IRError
from hetc.ir.dims import evaluate
from hetc.ir.examples import example
from hetc.ir.op import OPS
from hetc.ir.text import parse

QKV = "%q: f32[B,4,S,8], %k: f32[B,2,S,8], %v: f32[B,2,S,8]"
REFUSED = [
    ("%x: f32[2], %y: bf16[2]", "add %x, %y"),
    ("%x: f32[2], %y: f32[3]", "add %x, %y"),
    ("%x: f32[S], %y: f32[T]", "add %x, %y"),
    ("%x: i64[2]", "add %x, 0.5"),
    ("%x: i64[2]", "mul %x, inf"),
    ("", "add 1, 2"),
    ("%x: i64[2]", "exp %x"),
    ("%x: f32[2]", "not %x"),
    ("%x: bool[2]", "neg %x"),
    ("%c: i64[2]", "where %c, 1, 2"),
    ("%c: bool[2], %x: f32[2], %y: i64[2]", "where %c, %x, %y"),
    ("%x: f32[2], %y: f32[3]", "gated %x, %y"),
    ("%x: f32[2]", 'gated %x, %x {activation = "relu"}'),
    ("%x: f32[2]", "sum %x {axes = [1]}"),
    ("%x: f32[2]", "sum %x {axes = [0, -1]}"),
    ("%x: f32[2]", "argmax %x {axis = 1}"),
    ("%x: f32[2]", "cumsum %x {axis = -2}"),
    ("%x: i64[2]", "softmax %x {axis = 0}"),
    ("%x: i64[2]", "log_softmax %x {axis = 0}"),
    ("%x: f32[2], %c: f32[4], %s: f32[4]", "rope %x, %c, %s"),
    ("%x: f32[8], %c: f32[3], %s: f32[3]", "rope %x, %c, %s"),
    ("%x: f32[8], %c: f32[4], %s: f32[2]", "rope %x, %c, %s"),
    ("%x: f32[S,8], %c: f32[T,4], %s: f32[T,4]", "rope %x, %c, %s"),
    (QKV.replace("%k: f32[B,2", "%k: f32[B,3"), "attention %q, %k, %v"),
    (QKV.replace("%q: f32[B,4", "%q: f32[B,5"), "attention %q, %k, %v"),
    (QKV.replace("%q: f32[B,4", "%q: f32[1,4"), "attention %q, %k, %v"),
    (QKV.replace("%v: f32", "%v: bf16"), "attention %q, %k, %v"),
    (QKV.replace("%k: f32[B,2,S,8]", "%k: f32[B,2,S,4]"), "attention %q, %k, %v"),
    (f"{QKV}, %m: f32[T,S]", "attention %q, %k, %v {mask = %m}"),
    (f"{QKV}, %m: i64[S,S]", "attention %q, %k, %v {mask = %m}"),
    (f"{QKV}, %m: f32[2]", "attention %q, %k, %v {sinks = %m}"),
    ("%t: f32[9,4], %i: f32[2]", "embedding %t, %i"),
    ("%t: f32[9], %i: i64[2]", "embedding %t, %i"),
    ("%x: f32[9], %i: f32[2]", "gather %x, %i"),
    ("%x: f32[9], %i: i64[2]", "gather %x, %i {axis = 1}"),
    ("%x: f32[9,2], %i: i64[2]", "take_along %x, %i {axis = 0}"),
    ("%x: f32[9], %i: i64[2], %u: f32[3]", "put_along %x, %i, %u {axis = 0}"),
    ("%x: f32[9], %i: i64[2], %u: bf16[2]", "put_along %x, %i, %u {axis = 0}"),
    ("%x: f32[9], %i: i64[2]", 'put_along %x, %i, %x {axis = 0, reduction = "sub"}'),
    ("%x: f32[9,2], %i: i64[2]", "index %x, [%i] {axes = [-1]}"),
    ("%x: f32[9,2], %i: i64[2]", "index %x, [%i, %i] {axes = [1, 0]}"),
    ("%x: f32[9,2], %i: i64[2]", "index %x, [%i] {axes = [2]}"),
    ("%x: f32[9,2], %i: f32[2]", "index %x, [%i] {axes = [0]}"),
    ("%x: f32[9,2], %i: i64[2], %j: i64[3]", "index %x, [%i, %j] {axes = [0, 1]}"),
    ("%x: f32[9,2]", "index %x, [] {axes = []}"),
    ("%x: f32[9,2], %i: i64[3], %u: f32[2,2]", "index_put %x, %u, [%i] {axes = [0]}"),
    ("%x: f32[9,2], %i: i64[3], %u: i64[2]", "index_put %x, %u, [%i] {axes = [0]}"),
    ("", "random {shape = [2], dtype = i64}"),
    ("", "random {shape = [2], seed = -1}"),
    ("%x: f32[4]", "topk %x {k = 5}"),
    ("%x: f32[4]", "sort %x {axis = 1}"),
    ("%a: f32[2,3], %b: f32[2,3]", "matmul %a, %b"),
    ("%a: f32[3], %b: f32[3,2]", "matmul %a, %b"),
    ("%a: f32[2,3], %b: bf16[3,2]", "matmul %a, %b"),
    ("%a: f32[4,2,3], %b: f32[5,3,2]", "matmul %a, %b"),
    ("%x: f32[2,3], %w: f32[2,4]", "linear %x, %w"),
    ("%x: f32[2,3], %w: f32[2,3], %b: f32[3]", "linear %x, %w {bias = %b}"),
    ("%x: f32[R,3], %w: f32[4,2,3], %i: i64[S]", "expert_linear %x, %w, %i"),
    ("%x: f32[R,3], %w: f32[4,2,3], %i: f32[R]", "expert_linear %x, %w, %i"),
    ("%x: f32[R,3], %w: f32[4,2,3], %i: i64[R]", "expert_linear %x, %w, %i {transposed}"),
    (
        "%x: f32[R,3], %w: f32[4,2,3], %i: i64[R], %b: f32[2]",
        "expert_linear %x, %w, %i {bias = %b}",
    ),
    ("%x: f32[S,3], %w: f32[2]", "rms_norm %x {weight = %w}"),
    ("%x: f32[S,3], %w: f32[2]", "layer_norm %x {bias = %w}"),
    ("%x: f32[4], %s: f32[2]", "quantize %x, %s {group = 3}"),
    ("%x: f32[4], %s: f32[2]", "quantize %x, %s {group = 2, dtype = bf16}"),
    ("%x: i8[4], %s: f32[1,2]", "dequantize %x, %s {group = 2}"),
    ("%x: i8[4], %s: f32[2], %z: f32[4]", "dequantize %x, %s {zero = %z, group = 2}"),
    ("%x: f32[B,S]", "reshape %x {shape = [B, S, 2]}"),
    ("%x: f32[B,S]", "reshape %x {shape = [B+S]}"),
    ("%x: f32[2,3]", "transpose %x {perm = [0, 0]}"),
    ("%x: f32[2,3]", "broadcast %x {shape = [3, 3]}"),
    ("%x: f32[2,3]", "broadcast %x {shape = [3]}"),
    ("%x: f32[4]", "slice %x {axis = 1}"),
    ("%x: f32[4]", "slice %x {axis = 0, stop = 5}"),
    ("%x: f32[4]", "slice %x {axis = 0, start = -1}"),
    ("%x: f32[4]", "slice %x {axis = 0, step = 0}"),
    ("%x: f32[S]", "slice %x {axis = 0, step = 2}"),
    ("%x: f32[S]", "slice %x {axis = 0, start = 2*S}"),
    ("", "concat [] {axis = 0}"),
    ("%x: f32[4,2], %y: f32[4,3]", "concat [%x, %y] {axis = 0}"),
    ("%x: f32[4,2]", "concat [%x] {axis = 2}"),
    ("%x: f32[4]", "split %x {axis = 0, sizes = [1, 2]}"),
    ("%x: f32[4]", "pad %x {low = [1], high = [1, 1]}"),
    ("%x: f32[4]", "flip %x {axes = [1]}"),
    ("%x: f32[4]", "tile %x {repeats = [1, 2]}"),
    ("", "constant {data = [[1], [1, 2]]}"),
    ("", "constant {data = [1, [1]]}"),
    ("%x: f32[B,P], %y: f32[2*B,T]", "kv_append %x, %y {axis = 1}"),
    ("%x: f32[B,P], %y: f32[B]", "kv_append %x, %y {axis = 1}"),
    ("%x: f32[4]", "keep_last %x {axis = 1, rows = 2}"),
    ("%x: f32[B,4,T], %w: f32[4,2,3]", "conv1d_causal %x, %w"),
    ("%x: f32[B,4,T], %w: f32[3,2,3]", "conv1d_causal %x, %w {groups = 2}"),
    ("%x: f32[B,4,T], %w: f32[4,4,3], %h: f32[B,4,3]", "conv1d_causal %x, %w {history = %h}"),
    ("%x: f32[B,4,T], %w: f32[4,4,3], %b: f32[2]", "conv1d_causal %x, %w {bias = %b}"),
    ("%x: f32[B,S], %d: f32[B,1]", "scan %x, %d"),
    ("%x: f32[B,4], %w: f32[4,4]", "conv %x, %w"),
    ("%x: f32[B,4,9], %w: f32[4,3,3]", "conv %x, %w"),
    ("%x: f32[B,4,9], %w: bf16[4,4,3]", "conv %x, %w"),
    ("%x: f32[B,4,9], %w: f32[3,2,3]", "conv %x, %w {groups = 2}"),
    ("%x: f32[B,4,2], %w: f32[4,4,3]", "conv %x, %w"),
    ("%x: f32[B,4,S], %w: f32[4,4,3]", "conv %x, %w {stride = [2]}"),
    ("%x: f32[B,4,9], %w: f32[4,4,3]", "conv %x, %w {stride = [1, 1]}"),
    ("%x: f32[B,4,9], %w: f32[4,4,3], %b: f32[3]", "conv %x, %w {bias = %b}"),
    ("%x: f32[B,4,9], %w: f32[3,4,3]", "conv_transpose %x, %w"),
    ("%x: f32[B,3,9], %w: f32[3,4,3]", "conv_transpose %x, %w {groups = 2}"),
    ("%x: f32[B,4,1], %w: f32[4,4,1]", "conv_transpose %x, %w {low = [2]}"),
    ("%x: f32[B,4,9]", "max_pool %x {window = [3, 3]}"),
    ("%x: f32[B,4,S]", "max_pool %x {window = [3], stride = [2], ceil}"),
    ("%x: bool[B,4,9]", "max_pool %x {window = [3]}"),
    ("%x: f32[B,4,9]", "avg_pool %x {window = [0]}"),
    ("%x: f32[B,4,9]", "avg_pool %x {window = [3], divisor = 0}"),
    ("%x: f32[B,S], %d: f32[B,S], %h: f32[S]", "scan %x, %d {initial = %h}"),
    ("%x: i64[B,S]", "scan %x, 0.5"),
    ("%x: bool[B,S]", "scan %x, 1"),
]


@pytest.mark.parametrize(("inputs", "line"), REFUSED)
def test_what_does_not_fit_is_refused_by_name(inputs: str, line: str) -> None:
    count = {"topk": 2, "sort": 2, "scan": 2, "max_pool": 2}.get(line.split()[0], 1)
    results = ", ".join(f"%{index}" for index in range(count))
    with pytest.raises(IRError) as caught:
        parse(f"graph @f({inputs}) {{ {results} = {line} return }}")
    assert caught.value.code == "HETC-X010"
    assert caught.value.what.startswith(line.split()[0])


@pytest.mark.parametrize("kind", OPS)
def test_costs_are_numbers_from_zero_up(kind: str) -> None:
    sizes = dict.fromkeys("BSTPHVKNMR", 64)
    cost = example(kind).ops[0].cost()
    for amount in (cost.flops, cost.bytes_read, cost.bytes_written):
        assert evaluate(amount, sizes) >= 0


@pytest.mark.parametrize(
    ("inputs", "line", "flops", "read", "written"),
    [
        ("%x: bf16[B,S,8], %w: bf16[4,8]", "linear %x, %w", 2 * 6 * 8 * 4, 6 * 16 + 64, 6 * 8),
        ("%a: f32[B,2,8], %b: f32[B,8,4]", "matmul %a, %b", 2 * 2 * 2 * 8 * 4, 384, 64),
        ("%t: bf16[99,8], %i: i64[B,S]", "embedding %t, %i", 0, 6 * 16 + 6 * 8, 6 * 16),
        ("%x: f32[B,S]", "reshape %x {shape = [B*S]}", 0, 0, 0),
        ("%p: f32[B,S], %n: f32[B,1]", "kv_append %p, %n {axis = 1}", 0, 8, 8),
        # Position i of 3 sees i+1 keys: 6 pairs, each 2*4 + 2*4 flops and 12 for the softmax.
        (
            "%q: f32[B,1,S,4], %k: f32[B,1,S,4]",
            "attention %q, %k, %k {causal}",
            2 * 6 * (16 + 12),
            3 * 96,
            96,
        ),
    ],
)
def test_costs_by_hand(inputs: str, line: str, flops: int, read: int, written: int) -> None:
    graph = parse(f"graph @f({inputs}) {{ %0 = {line} return %0 }}")
    cost = graph.ops[0].cost()
    sizes = {"B": 2, "S": 3}
    amounts = (cost.flops, cost.bytes_read, cost.bytes_written)
    assert tuple(evaluate(amount, sizes) for amount in amounts) == (flops, read, written)
