"""Attention with grouped queries: a group's heads are one matrix, so keys are never repeated.

Scores are [B, G, R*T, L] for G groups of R heads. Everything added to them is brought to that form
once: masks and biases depend on positions alone, and all layers share their nodes.
"""

from __future__ import annotations

import numpy as np

from hetc.backends.onnx.elements import computed
from hetc.backends.onnx.table import Context, emits
from hetc.ir.dims import DimLike
from hetc.ir.op import Value
from hetc.ir.ops.attention import Attention
from hetc.ir.types import BOOL, F32, I64, Shape


def _heads(op: Attention) -> tuple[int, int]:
    """Groups G and heads R in each."""
    heads, groups = op.q.shape[1], op.k.shape[1]
    assert isinstance(heads, int)
    assert isinstance(groups, int)
    return groups, heads // groups


@emits(Attention, kernels=("Softmax", "IsInf"))
def attention(c: Context, op: Attention) -> str:
    """Two forms, chosen by what was measured on two cores with SmolLM2's sizes (30 layers, f32).

    512 tokens at once take 140 ms by ONNX's own Attention and 270 ms in steps, which pass over all
    scores several times. One token after 1024 takes 10 ms and 6 ms: there the steps win.
    """
    return _at_once(c, op) if _starts_here(op) else _in_steps(c, op)


def _starts_here(op: Attention) -> bool:
    """Whether there is no past, and nothing that ONNX's Attention lacks or does otherwise."""
    others = (op.mask, op.sinks, op.slopes, op.softcap)
    rows, length = op.q.shape[2], op.k.shape[2]
    fits = computed(op.q.dtype) is F32 and op.v.shape[-1] == op.q.shape[-1]
    return fits and rows == length and rows != 1 and all(other is None for other in others)


def _at_once(c: Context, op: Attention) -> str:
    inputs = c.w.read((op.q, op.k, op.v))
    only_causal = op.causal and op.window is None and op.chunk is None
    visible = "" if only_causal else _visible(c, op)
    if visible:
        inputs.append(visible)
    return c.w.node("Attention", *inputs, scale=float(op.scale), is_causal=int(only_causal))


def _in_steps(c: Context, op: Attention) -> str:
    w, dtype = c.w, op.q.dtype
    groups, _ = _heads(op)
    batch, width = op.q.shape[0], op.q.shape[3]
    grouped = (batch, groups, _grouped_rows(op), width)
    q = c.sizes.reshape(w[op.q], op.q.shape, grouped)
    scaled = q if op.scale == 1 else w.node("Mul", q, w.constant(op.scale, dtype))
    scores = w.node("MatMul", scaled, w.transpose(w[op.k], (0, 1, 3, 2)))
    if op.softcap is not None:
        cap = w.constant(op.softcap, dtype)
        scores = w.node("Mul", w.node("Tanh", w.node("Div", scores, cap)), cap)
    for addend in _addends(c, op):
        scores = w.node("Add", scores, addend)
    weights = _softmax(c, op, scores)
    mixed = w.node("MatMul", weights, w[op.v])
    shown = (*grouped[:3], op.v.shape[-1])
    return c.sizes.reshape(mixed, shown, op.result.shape)


def _grouped_rows(op: Attention) -> DimLike:
    return _heads(op)[1] * op.q.shape[2]


def _softmax(c: Context, op: Attention, scores: str) -> str:
    w = c.w
    if op.sinks is not None:
        groups, repeat = _heads(op)
        batch, _, rows, _ = op.q.shape
        sinks = _per_head(c, op.sinks, op)
        column = c.sizes.expand(sinks, (groups, repeat, 1, 1), (groups, repeat, rows, 1))
        column = c.sizes.reshape(column, (groups, repeat, rows, 1), (groups, _grouped_rows(op), 1))
        shape = (groups, _grouped_rows(op), 1)
        column = c.sizes.expand(column, shape, (batch, *shape))
        all_weights = w.node("Softmax", w.node("Concat", scores, column, axis=-1), axis=-1)
        ends = (w.ints([0]), w.ints([-1]), w.ints([3]))
        return w.node("Slice", all_weights, *ends)
    weights = w.node("Softmax", scores, axis=-1)
    if op.mask is None:
        # Every query sees itself, so that no row is empty.
        return weights
    # A query that sees nothing takes nothing; other NaN stay.
    hidden = w.node("IsInf", scores, detect_positive=0)
    undefined = w.node("And", w.node("IsNaN", weights), hidden)
    return w.node("Where", undefined, w.constant(0, op.q.dtype), weights)


def _addends(c: Context, op: Attention) -> list[str]:
    """What is added to the scores, each broadcasting to [B, G, R*T, L]."""
    dtype = op.q.dtype
    found = []
    visible = _visible(c, op)
    if visible:
        found.append(_repeated(c, op, _as_addend(c, op, visible)))
    if op.slopes is not None:
        groups, repeat = _heads(op)
        distance = c.w.cast(c.w.node("Neg", _behind(c, op)), dtype)
        bias = c.w.node("Mul", _per_head(c, op.slopes, op), distance)
        rows, length = op.q.shape[2], op.k.shape[2]
        shape = (groups, repeat, rows, length)
        found.append(c.sizes.reshape(bias, shape, (groups, _grouped_rows(op), length)))
    if op.mask is not None:
        found.append(_mask(c, op, op.mask))
    return found


def _per_head(c: Context, value: Value, op: Attention) -> str:
    """[H] as [G, R, 1, 1]."""
    groups, repeat = _heads(op)
    return c.sizes.reshape(c.w[value], value.shape, (groups, repeat, 1, 1))


def _as_addend(c: Context, op: Attention, visible: str) -> str:
    dtype = op.q.dtype
    return c.w.node("Where", visible, c.w.constant(0, dtype), c.w.constant(-np.inf, dtype))


def _behind(c: Context, op: Attention) -> str:
    """How many positions a key stands behind a query: i64[T, L]."""
    rows, length = op.q.shape[2], op.k.shape[2]
    query = c.w.node("Unsqueeze", _range(c, length - rows, length), c.w.ints([1]))
    return c.w.node("Sub", query, _range(c, 0, length))


def _range(c: Context, start: DimLike, stop: DimLike) -> str:
    return c.w.node("Range", c.sizes.scalar(start), c.sizes.scalar(stop), c.w.constant(1, I64))


def _visible(c: Context, op: Attention) -> str:
    """Which key a query sees by its place, bool[T, L]; empty where it sees all."""
    w = c.w
    rows, length = op.q.shape[2], op.k.shape[2]
    tests = []
    if op.causal and rows != 1:
        tests.append(w.node("GreaterOrEqual", _behind(c, op), w.constant(0, I64)))
    if op.window is not None:
        tests.append(w.node("Less", _behind(c, op), w.constant(op.window, I64)))
    if op.chunk is not None:
        size = w.constant(op.chunk, I64)
        query = w.node("Div", _range(c, length - rows, length), size)
        key = w.node("Div", _range(c, 0, length), size)
        tests.append(w.node("Equal", w.node("Unsqueeze", query, w.ints([1])), key))
    found = ""
    for test in tests:
        found = w.node("And", found, test) if found else test
    return found


def _repeated(c: Context, op: Attention, rows: str) -> str:
    """[T, L] for each head of a group: [R*T, L]."""
    _, repeat = _heads(op)
    return rows if repeat == 1 else c.w.node("Tile", rows, c.w.ints([repeat, 1]))


def _mask(c: Context, op: Attention, mask: Value) -> str:
    """The mask operand as an addend [b, G or 1, R*T, L or 1]."""
    groups, repeat = _heads(op)
    if mask.dtype is BOOL:
        addend = _as_addend(c, op, c.w[mask])
    elif computed(mask.dtype) is computed(op.q.dtype):
        addend = c.w[mask]
    else:
        addend = c.w.cast(c.w[mask], op.q.dtype)
    shape: Shape = (1,) * (4 - mask.rank) + tuple(mask.shape)
    addend = c.sizes.reshape(addend, mask.shape, shape)
    batch, heads, rows, length = shape
    if repeat == 1 or (heads == 1 and rows == 1):
        return addend
    full = (batch, groups if heads != 1 else 1, repeat, op.q.shape[2], length)
    split = (batch, full[1], repeat if heads != 1 else 1, rows, length)
    addend = c.sizes.expand(c.sizes.reshape(addend, shape, split), split, full)
    return c.sizes.reshape(addend, full, (batch, full[1], _grouped_rows(op), length))
