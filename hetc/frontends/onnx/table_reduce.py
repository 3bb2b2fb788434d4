"""Reductions, running sums, softmax and orderings."""

from __future__ import annotations

from hetc.frontends.onnx.context import Context, Unsupported, onnx_op
from hetc.frontends.onnx.item import Item
from hetc.frontends.onnx.known import elements
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.table_shape import axes_of
from hetc.ir.op import Op
from hetc.ir.ops import elementwise as ew
from hetc.ir.ops import reduce as ops
from hetc.ir.ops.index import TopK
from hetc.ir.ops.shape import Flip, normalize_axis

_REDUCE: dict[str, type[Op]] = {
    "ReduceSum": ops.Sum,
    "ReduceMean": ops.Mean,
    "ReduceMax": ops.ReduceMax,
    "ReduceMin": ops.ReduceMin,
    "ReduceProd": ops.Prod,
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
    return ctx.emit(kind, x, counted, bool(node.get("keepdims", 1)))


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
    along = axes_of(node, axes, x.rank)
    if along is None or len(along) != 1:
        raise Unsupported("log-sum-exp over several axes")
    return _reduce(ctx, node, ops.LogSumExp, x, axes)


@onnx_op(*_SOFTMAX)
def softmax(ctx: Context, node: Node, x: Item) -> Item:
    axis = normalize_axis(node.get("axis", -1 if node.version >= 13 else 1), x.rank)
    if node.version < 13 and axis != x.rank - 1:
        raise Unsupported("a softmax over several axes at once (before opset 13)")
    return ctx.emit(_SOFTMAX[node.kind], x, axis - x.rank)


@onnx_op(*_EXTREME)
def extreme(ctx: Context, node: Node, x: Item) -> Item:
    if node.get("select_last_index", 0):
        raise Unsupported("the last of equal elements")
    return ctx.emit(_EXTREME[node.kind], x, node.get("axis", 0), bool(node.get("keepdims", 1)))


@onnx_op("CumSum")
def cumsum(ctx: Context, node: Node, x: Item, axis: Item) -> Item:
    along = elements(axis)
    if along is None:
        raise Unsupported("an axis that depends on data")
    backwards = bool(node.get("reverse", 0))
    source = ctx.emit(Flip, x, along) if backwards else x
    total = ctx.emit(ops.CumSum, source, along[0])
    if node.get("exclusive", 0):
        total = ctx.emit(ew.Sub, total, source)
    return ctx.emit(Flip, total, along) if backwards else total


@onnx_op("TopK")
def topk(ctx: Context, node: Node, x: Item, k: Item | None = None) -> tuple[Item, ...]:
    count = elements(k) if k is not None else (node.get("k"),)
    if count is None:
        raise Unsupported("a k that depends on data")
    largest = bool(node.get("largest", 1))
    return ctx.emit_all(TopK, x, count[0], axis=node.get("axis", -1), largest=largest)
