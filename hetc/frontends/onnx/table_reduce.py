"""Reductions, running sums, softmax and orderings."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from hetc.frontends.onnx.context import Context, Unsupported, onnx_op
from hetc.frontends.onnx.item import Item
from hetc.frontends.onnx.known import elements
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.table_shape import axes_of, reshaped
from hetc.ir.dims import product
from hetc.ir.op import Op
from hetc.ir.ops import elementwise as ew
from hetc.ir.ops import reduce as ops
from hetc.ir.ops.index import TopK
from hetc.ir.ops.sequence import Scan
from hetc.ir.ops.shape import Flip, Pad, normalize_axis
from hetc.ir.ops.source import Full, Iota
from hetc.ir.types import BOOL, DType

_REDUCE: dict[str, type[Op]] = {
    "ReduceSum": ops.Sum,
    "ReduceMean": ops.Mean,
    "ReduceMax": ops.ReduceMax,
    "ReduceMin": ops.ReduceMin,
    "ReduceProd": ops.Prod,
}


def _lowest(dtype: DType) -> float | int | bool:
    if dtype is BOOL:
        return False
    return int(np.iinfo(dtype.numpy).min) if dtype.is_int else -math.inf


def _highest(dtype: DType) -> float | int | bool:
    if dtype is BOOL:
        return True
    return int(np.iinfo(dtype.numpy).max) if dtype.is_int else math.inf


# What a reduction of no elements gives; sums and products need no such rule.
_NEUTRAL: dict[type[Op], Callable[[DType], float | int | bool]] = {
    ops.ReduceMax: _lowest,
    ops.ReduceMin: _highest,
    ops.LogSumExp: _lowest,
}
_SOFTMAX: dict[str, type[Op]] = {"Softmax": ops.Softmax, "LogSoftmax": ops.LogSoftmax}
_EXTREME: dict[str, type[Op]] = {"ArgMax": ops.ArgMax, "ArgMin": ops.ArgMin}


def _reduce(ctx: Context, node: Node, kind: type[Op], x: Item, axes: Item | None) -> Item:
    along = axes_of(node, axes, x.rank)
    if not along:
        if node.get("noop_with_empty_axes", 0):
            return x
        along = tuple(range(x.rank))
    # A normalisation over the last axis reads the same whatever the rank: count that one from the
    # back.
    counted = (-1,) if along == (x.rank - 1,) else along
    keep = bool(node.get("keepdims", 1))
    if kind in _NEUTRAL and any(x.shape[axis] == 0 for axis in along):
        pairs = [(axis in along, size) for axis, size in enumerate(x.shape)]
        shape = tuple(1 if gone else size for gone, size in pairs if keep or not gone)
        return ctx.emit(Full, _NEUTRAL[kind](x.dtype), shape, x.dtype)
    return ctx.emit(kind, x, counted, keep)


@onnx_op(*_REDUCE)
def reduce(ctx: Context, node: Node, x: Item, axes: Item | None = None) -> Item:
    return _reduce(ctx, node, _REDUCE[node.kind], x, axes)


@onnx_op("ReduceSumSquare", "ReduceL2")
def reduce_squares(ctx: Context, node: Node, x: Item, axes: Item | None = None) -> Item:
    total = _reduce(ctx, node, ops.Sum, ctx.emit(ew.Mul, x, x), axes)
    return ctx.emit(ew.Sqrt, total) if node.kind == "ReduceL2" else total


@onnx_op("ReduceL1")
def reduce_l1(ctx: Context, node: Node, x: Item, axes: Item | None = None) -> Item:
    return _reduce(ctx, node, ops.Sum, ctx.emit(ew.Abs, x), axes)


@onnx_op("ReduceLogSum")
def reduce_log_sum(ctx: Context, node: Node, x: Item, axes: Item | None = None) -> Item:
    return ctx.emit(ew.Log, _reduce(ctx, node, ops.Sum, x, axes))


@onnx_op("ReduceLogSumExp")
def reduce_log_sum_exp(ctx: Context, node: Node, x: Item, axes: Item | None = None) -> Item:
    return _reduce(ctx, node, ops.LogSumExp, x, axes)


@onnx_op(*_SOFTMAX)
def softmax(ctx: Context, node: Node, x: Item) -> Item:
    axis = normalize_axis(node.get("axis", -1 if node.version >= 13 else 1), x.rank)
    flat = _in_rows(ctx, node, x, axis)
    if flat is None:
        return ctx.emit(_SOFTMAX[node.kind], x, axis - x.rank)
    return reshaped(ctx, ctx.emit(_SOFTMAX[node.kind], flat, -1), x.shape)


def _in_rows(ctx: Context, node: Node, x: Item, axis: int) -> Item | None:
    """`x` as a matrix: before operator set 13 a softmax went over all axes from one on. None where
    that is one axis.
    """
    if node.version >= 13 or axis == x.rank - 1:
        return None
    return reshaped(ctx, x, (product(x.shape[:axis]), product(x.shape[axis:])))


@onnx_op(*_EXTREME)
def extreme(ctx: Context, node: Node, x: Item) -> Item:
    axis, keep = normalize_axis(node.get("axis", 0), x.rank), bool(node.get("keepdims", 1))
    if not node.get("select_last_index", 0):
        return ctx.emit(_EXTREME[node.kind], x, axis, keep)
    # The last of equal elements is the first from behind.
    found = ctx.emit(_EXTREME[node.kind], ctx.emit(Flip, x, (axis,)), axis, keep)
    return ctx.emit(ew.Sub, x.shape[axis] - 1, found)


@onnx_op("Hardmax")
def hardmax(ctx: Context, node: Node, x: Item) -> Item:
    axis = normalize_axis(node.get("axis", -1 if node.version >= 13 else 1), x.rank)
    flat = _in_rows(ctx, node, x, axis)
    source, along = (x, axis) if flat is None else (flat, 1)
    best = ctx.emit(ops.ArgMax, source, along, True)
    shape = tuple(size if a == along else 1 for a, size in enumerate(source.shape))
    places = reshaped(ctx, ctx.emit(Iota, source.shape[along]), shape)
    return reshaped(ctx, ctx.emit(ew.Cast, ctx.emit(ew.Eq, places, best), x.dtype), x.shape)


@onnx_op("LpNormalization")
def lp_normalization(ctx: Context, node: Node, x: Item) -> Item:
    axis = normalize_axis(node.get("axis", -1), x.rank)
    if node.get("p", 2) == 1:
        norm = ctx.emit(ops.Sum, ctx.emit(ew.Abs, x), (axis,), True)
    else:
        norm = ctx.emit(ew.Sqrt, ctx.emit(ops.Sum, ctx.emit(ew.Mul, x, x), (axis,), True))
    # Only zeros have a norm of zero; they stay what they are.
    return ctx.emit(ew.Div, x, ctx.emit(ew.Where, ctx.emit(ew.Eq, norm, 0.0), 1.0, norm))


@onnx_op("CumSum", "CumProd")
def cumulative(ctx: Context, node: Node, x: Item, axis: Item) -> Item:
    along = elements(axis)
    if along is None:
        raise Unsupported("an axis that depends on data")
    place = normalize_axis(along[0], x.rank)
    backwards = bool(node.get("reverse", 0))
    source = ctx.emit(Flip, x, (place,)) if backwards else x
    first = 0 if node.kind == "CumSum" else 1
    if node.get("exclusive", 0):
        # Every result leaves its own element out: all move on by one.
        low, high = [0] * x.rank, [0] * x.rank
        low[place], high[place] = 1, -1
        source = ctx.emit(Pad, source, tuple(low), tuple(high), first)
    if node.kind == "CumSum":
        total = ctx.emit(ops.CumSum, source, place)
    else:
        # A recurrence that only decays: h[t] = x[t] * h[t-1], from 1.
        one = ctx.emit(Full, 1, (*x.shape[:place], *x.shape[place + 1 :]), x.dtype)
        nothing = ctx.emit(Full, 0, x.shape, x.dtype)
        total = ctx.emit(Scan, nothing, source, initial=one, axis=place)
    return ctx.emit(Flip, total, (place,)) if backwards else total


@onnx_op("TopK")
def topk(ctx: Context, node: Node, x: Item, k: Item | None = None) -> tuple[Item, ...]:
    count = elements(k) if k is not None else (node.get("k"),)
    if count is None:
        raise Unsupported("a k that depends on data")
    largest = bool(node.get("largest", 1))
    return ctx.emit_all(TopK, x, count[0], axis=node.get("axis", -1), largest=largest)
