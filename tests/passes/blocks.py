"""Decoder stacks in the low-level ops that frameworks export, for property tests of passes."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hetc.ir.dims import DimLike, evaluate, symbol
from hetc.ir.graph import Graph, GraphBuilder
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.elementwise import (
    Add,
    And,
    Cast,
    Cos,
    Div,
    Erf,
    Gt,
    Le,
    Mul,
    Neg,
    Pow,
    Rsqrt,
    Sigmoid,
    Sin,
    Sub,
    Tanh,
    Where,
)
from hetc.ir.ops.index import Embedding
from hetc.ir.ops.linear import MatMul
from hetc.ir.ops.reduce import Mean, ReduceMax, Softmax
from hetc.ir.ops.shape import Broadcast, Concat, Reshape, Slice, Transpose
from hetc.ir.ops.source import Iota, Weight
from hetc.ir.types import F32, I64, Array, TensorType

B, S = symbol("B"), symbol("S")
HIDDEN, WIDTH, VOCABULARY = 12, 4, 13
LOWEST = -3.4028234663852886e38


@dataclass(frozen=True)
class Block:
    """One decoder layer; `heads` is a multiple of `groups`."""

    heads: int = 2
    groups: int = 1
    window: int | None = None
    softcap: float | None = None
    sinks: bool = False
    # "where": scores are replaced; "add": a float mask is added; "attention": a whole attention op
    # with a bool mask, as scaled_dot_product_attention is exported.
    mask: str = "where"
    # Pairs in halves, interleaved pairs, "halves" computed apart (gpt-oss), or "none".
    rope: str = "half"
    norm: str = "rms"
    mlp: str = "gated"


def weight(name: str, *shape: int) -> Value:
    return Weight(name, TensorType(F32, shape)).result


def product(x: Value, name: str, outputs: int, loc: str) -> Value:
    """x @ W^T as exported: the weight is transposed first."""
    width = x.shape[-1]
    assert isinstance(width, int)
    turned = Transpose(weight(name, outputs, width), (1, 0), loc=loc).result
    return MatMul(x, turned, loc=loc).result


def rms_norm(x: Value, name: str, loc: str) -> Value:
    mean = Mean(Pow(x, 2.0, loc=loc).result, (-1,), True, loc=loc).result
    scale = Rsqrt(Add(mean, 1e-6, loc=loc).result, loc=loc).result
    return Mul(weight(name, HIDDEN), Mul(x, scale, loc=loc).result, loc=loc).result


def layer_norm(x: Value, name: str, loc: str) -> Value:
    centred = Sub(x, Mean(x, (-1,), True, loc=loc).result, loc=loc).result
    variance = Mean(Pow(centred, 2.0, loc=loc).result, (-1,), True, loc=loc).result
    scale = Rsqrt(Add(variance, 1e-5, loc=loc).result, loc=loc).result
    scaled = Mul(Mul(centred, scale, loc=loc).result, weight(name, HIDDEN), loc=loc).result
    return Add(scaled, weight(f"{name}.bias", HIDDEN), loc=loc).result


def angles(interleaved: bool = False) -> tuple[Value, Value]:
    """cos and sin `[S, WIDTH]` of position times frequency."""
    positions = Cast(Iota(S, loc="rotary").result, F32, loc="rotary").result
    columns = Reshape(positions, (S, 1), loc="rotary").result
    rates = weight("rotary.rates", WIDTH // 2)
    turned = Mul(columns, rates, loc="rotary").result
    if interleaved:
        pairs = Reshape(turned, (S, WIDTH // 2, 1), loc="rotary").result
        doubled = Broadcast(pairs, (S, WIDTH // 2, 2), loc="rotary").result
        whole = Reshape(doubled, (S, WIDTH), loc="rotary").result
    else:
        whole = Concat((turned, turned), -1, loc="rotary").result
    return Cos(whole, loc="rotary").result, Sin(whole, loc="rotary").result


def rotate(x: Value, form: str, loc: str) -> Value:
    """Rotary embedding of `x [B, heads, S, WIDTH]` in one of the forms that models use."""
    half = WIDTH // 2
    if form == "none":
        return x
    cos, sin = angles(form == "interleaved")
    if form == "interleaved":
        even, odd = (Slice(x, 3, start, None, 2, loc=loc).result for start in (0, 1))
        shape = (*even.shape, 1)
        signed = Neg(odd, loc=loc).result
        parts = tuple(Reshape(part, shape, loc=loc).result for part in (signed, even))
        turned = Reshape(Concat(parts, -1, loc=loc).result, x.shape, loc=loc).result
    else:
        low, high = Slice(x, 3, 0, half, loc=loc).result, Slice(x, 3, half, loc=loc).result
        if form == "halves":
            c, s = (Slice(table, 1, 0, half, loc=loc).result for table in (cos, sin))
            first = Sub(Mul(low, c, loc=loc).result, Mul(high, s, loc=loc).result, loc=loc).result
            second = Add(Mul(high, c, loc=loc).result, Mul(low, s, loc=loc).result, loc=loc).result
            return Concat((first, second), -1, loc=loc).result
        turned = Concat((Neg(high, loc=loc).result, low), -1, loc=loc).result
    return Add(Mul(x, cos, loc=loc).result, Mul(turned, sin, loc=loc).result, loc=loc).result


def visible(window: int | None) -> Value:
    """bool [1, 1, S, S]: which keys each query sees."""
    query = Reshape(Iota(S, loc="mask").result, (S, 1), loc="mask").result
    key = Reshape(Iota(S, loc="mask").result, (1, S), loc="mask").result
    seen = Le(key, query, loc="mask").result
    if window is not None:
        near = Gt(key, Sub(query, window, loc="mask").result, loc="mask").result
        seen = And(seen, near, loc="mask").result
    return Reshape(seen, (1, 1, S, S), loc="mask").result


def repeated(x: Value, times: int, loc: str) -> Value:
    """Every head of `x [B, G, S, WIDTH]` repeated for its group of queries."""
    groups = x.shape[1]
    wide = Reshape(x, (B, groups, 1, S, WIDTH), loc=loc).result
    spread = Broadcast(wide, (B, groups, times, S, WIDTH), loc=loc).result
    return Reshape(spread, (B, groups * times, S, WIDTH), loc=loc).result


def attend(x: Value, block: Block, name: str) -> Value:
    """Self-attention of `x [B, S, HIDDEN]`, written out."""
    loc = f"{name}.attn"

    def heads(part: str, count: int) -> Value:
        flat = product(x, f"{loc}.{part}", count * WIDTH, loc)
        split = Reshape(flat, (B, S, count, WIDTH), loc=loc).result
        return Transpose(split, (0, 2, 1, 3), loc=loc).result

    q = rotate(heads("q", block.heads), block.rope, loc)
    k = rotate(heads("k", block.groups), block.rope, loc)
    v = heads("v", block.groups)
    if block.heads != block.groups:
        k, v = (repeated(y, block.heads // block.groups, loc) for y in (k, v))
    seen = visible(block.window)
    if block.mask == "attention" and not block.sinks:
        scale, cap = 1 / math.sqrt(WIDTH), block.softcap
        mixed = Attention(q, k, v, seen, scale=scale, softcap=cap, loc=loc).result
    else:
        mixed = MatMul(_weights(q, k, seen, block, loc), v, loc=loc).result
    rows: tuple[DimLike, ...] = (B, S, block.heads * WIDTH)
    flat = Reshape(Transpose(mixed, (0, 2, 1, 3), loc=loc).result, rows, loc=loc).result
    return product(flat, f"{loc}.o", HIDDEN, loc)


def _weights(q: Value, k: Value, seen: Value, block: Block, loc: str) -> Value:
    scores = MatMul(q, Transpose(k, (0, 1, 3, 2), loc=loc).result, loc=loc).result
    scores = Mul(scores, 1 / math.sqrt(WIDTH), loc=loc).result
    if block.softcap is not None:
        capped = Tanh(Div(scores, block.softcap, loc=loc).result, loc=loc).result
        scores = Mul(capped, block.softcap, loc=loc).result
    if block.mask == "add":
        scores = Add(scores, Where(seen, 0.0, LOWEST, F32, loc=loc).result, loc=loc).result
    else:
        scores = Where(seen, scores, -math.inf, loc=loc).result
    if not block.sinks:
        return Softmax(scores, -1, loc=loc).result
    column = Reshape(weight(f"{loc}.sinks", block.heads), (1, block.heads, 1, 1), loc=loc).result
    sinks = Broadcast(column, (B, block.heads, S, 1), loc=loc).result
    joined = Concat((scores, sinks), -1, loc=loc).result
    shifted = Sub(joined, ReduceMax(joined, (-1,), True, loc=loc).result, loc=loc).result
    return Slice(Softmax(shifted, -1, loc=loc).result, 3, 0, S, loc=loc).result


def feed_forward(x: Value, form: str, name: str) -> Value:
    """The MLP: gated with silu, or plain with an erf gelu, written out."""
    loc, inner = f"{name}.mlp", 2 * HIDDEN
    up = product(x, f"{loc}.up", inner, loc)
    if form == "gated":
        gate = product(x, f"{loc}.gate", inner, loc)
        silu = Mul(gate, Sigmoid(gate, loc=loc).result, loc=loc).result
        mixed = Mul(silu, up, loc=loc).result
    else:
        erf = Erf(Div(up, math.sqrt(2), loc=loc).result, loc=loc).result
        half = Mul(up, 0.5, loc=loc).result
        mixed = Mul(half, Add(erf, 1.0, loc=loc).result, loc=loc).result
    return product(mixed, f"{loc}.down", HIDDEN, loc)


def stack(blocks: Sequence[Block]) -> Graph:
    """forward(tokens i64[B,S]) -> logits f32[B,S,VOCABULARY]."""
    builder = GraphBuilder("forward")
    tokens = builder.input("tokens", TensorType(I64, (B, S)))
    x = Embedding(weight("embed", VOCABULARY, HIDDEN), tokens, loc="embed").result
    for layer, block in enumerate(blocks):
        name = f"layers.{layer}"
        norm: Callable[[Value, str, str], Value] = rms_norm if block.norm == "rms" else layer_norm
        attended = attend(norm(x, f"{name}.norm1", f"{name}.norm1"), block, name)
        x = Add(x, attended, loc=name).result
        fed = feed_forward(norm(x, f"{name}.norm2", f"{name}.norm2"), block.mlp, name)
        x = Add(x, fed, loc=name).result
    logits = product(rms_norm(x, "norm", "norm"), "head", VOCABULARY, "head")
    return finished(builder, logits)


def finished(builder: GraphBuilder, logits: Value) -> Graph:
    assert isinstance(logits.op, Op)
    builder.add(logits.op)
    return builder.finish([logits], ["logits"])


def random_weights(graph: Graph) -> Callable[[str], Array]:
    """The same random weights for the same names, large enough that attention is not flat."""
    types = {op.name: op.type for op in graph.ops if isinstance(op, Weight)}
    for callee in graph.subgraphs():
        types |= {op.name: op.type for op in callee.ops if isinstance(op, Weight)}

    def lookup(name: str) -> Array:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        shape = tuple(evaluate(dim, {}) for dim in types[name].shape)
        return rng.normal(0, 0.6, shape).astype(types[name].dtype.numpy)

    return lookup
