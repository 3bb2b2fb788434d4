"""Operators that read and write by index."""

from __future__ import annotations

from hetc.frontends.onnx.bounds import at_least
from hetc.frontends.onnx.context import Context, Unsupported, onnx_op
from hetc.frontends.onnx.item import Item, WeightItem
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.table_shape import reshaped
from hetc.ir.dims import Dim, DimLike
from hetc.ir.op import Value
from hetc.ir.ops import index as ops
from hetc.ir.ops.elementwise import Add, broadcast_shapes
from hetc.ir.ops.shape import Broadcast, Concat, Reshape, Slice, normalize_axis
from hetc.ir.ops.source import Iota


@onnx_op("Gather")
def gather(ctx: Context, node: Node, x: Item, ids: Item) -> Item:
    axis = normalize_axis(node.get("axis", 0), x.rank)
    position = ids.literal()
    if ids.rank == 0 and isinstance(position, (int, Dim)):
        least = at_least(position)
        start = position + x.shape[axis] if least is not None and least < 0 else position
        row = ctx.emit(Slice, x, axis, start, start + 1)
        return reshaped(ctx, row, (*x.shape[:axis], *x.shape[axis + 1 :]))
    if isinstance(x, WeightItem) and x.rank == 2 and axis == 0:
        count = position_count(ids.value)
        if count is not None:
            ctx.limit(count, x.data.shape[0])
        if x not in ctx.tables:
            ctx.tables.append(x)
        return ctx.emit(ops.Embedding, x, ids)
    return ctx.emit(ops.Gather, x, ids, axis)


def position_count(ids: Value) -> Dim | None:
    """One more than the greatest of `ids` where they are positions from a range; a table of them
    bounds the sequence.
    """
    op = ids.op
    offset: DimLike = 0
    while isinstance(op, (Reshape, Broadcast, Add)):
        if isinstance(op, Add):
            if not isinstance(op.x, Value) or not isinstance(op.y, (int, Dim)):
                return None
            offset = offset + op.y
            op = op.x.op
        else:
            op = op.x.op
    if isinstance(op, Iota) and op.step == 1:
        last = op.start + op.size + offset
        return last if isinstance(last, Dim) else None
    return None


@onnx_op("GatherElements")
def gather_elements(ctx: Context, node: Node, x: Item, ids: Item) -> Item:
    return ctx.emit(ops.TakeAlong, x, ids, node.get("axis", 0))


@onnx_op("ScatterElements")
def scatter_elements(ctx: Context, node: Node, x: Item, ids: Item, updates: Item) -> Item:
    if node.get("reduction", "none") != "none":
        raise Unsupported(f"scattering by {node.get('reduction')}")
    return ctx.emit(ops.PutAlong, x, ids, updates, node.get("axis", 0))


@onnx_op("GatherND")
def gather_nd(ctx: Context, node: Node, x: Item, indices: Item) -> Item:
    if node.get("batch_dims", 0):
        raise Unsupported("gathering per batch")
    parts = index_arrays(ctx, indices)
    return ctx.emit(ops.Index, x, parts, tuple(range(len(parts))))


@onnx_op("ScatterND")
def scatter_nd(ctx: Context, node: Node, x: Item, indices: Item, updates: Item) -> Item:
    reduction = node.get("reduction", "none")
    if reduction not in ("none", "add"):
        raise Unsupported(f"scattering by {reduction}")
    parts = index_arrays(ctx, indices)
    axes = tuple(range(len(parts)))
    return ctx.emit(ops.IndexPut, x, updates, parts, axes, accumulate=reduction == "add")


def index_arrays(ctx: Context, indices: Item) -> tuple[Item, ...]:
    """The index tuples in the last axis of `indices` as one array an axis.

    An exporter makes them by concatenating index arrays that it expanded to one shape; those arrays
    are found again, since index arrays broadcast by themselves.
    """
    width = indices.shape[-1]
    if not isinstance(width, int):
        raise Unsupported("index tuples of a length that depends on data")
    rank = indices.rank
    op = indices.value.op
    if isinstance(op, Concat) and normalize_axis(op.axis, rank) == rank - 1 and len(op.xs) == width:
        parts = [_without_last_axis(ctx, x) for x in op.xs]
        narrow = [_before_broadcast(part) for part in parts]
        if broadcast_shapes(*(part.shape for part in narrow)) == indices.shape[:-1]:
            return tuple(narrow)
        return tuple(parts)
    cut = (ctx.emit(Slice, indices, rank - 1, i, i + 1) for i in range(width))
    return tuple(reshaped(ctx, part, indices.shape[:-1]) for part in cut)


def _without_last_axis(ctx: Context, value: Value) -> Item:
    shape = value.shape[:-1]
    op = value.op
    if isinstance(op, Reshape) and op.x.shape == shape:
        return Item(op.x.type, op.x)
    return ctx.emit(Reshape, Item(value.type, value), shape)


def _before_broadcast(item: Item) -> Item:
    op = item.value.op
    return Item(op.x.type, op.x) if isinstance(op, Broadcast) else item
