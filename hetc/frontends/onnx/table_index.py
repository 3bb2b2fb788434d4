"""Operators that read and write by index."""

from __future__ import annotations

from hetc.frontends.onnx.bounds import at_least
from hetc.frontends.onnx.context import Context, Unsupported, onnx_op
from hetc.frontends.onnx.item import Item, WeightItem
from hetc.frontends.onnx.known import elements
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.table_elementwise import converted
from hetc.frontends.onnx.table_shape import reshaped
from hetc.ir.dims import Dim, DimLike, product
from hetc.ir.op import Value
from hetc.ir.ops import index as ops
from hetc.ir.ops.elementwise import Add, Lt, Mod, Mul, Sub, Where, broadcast_shapes
from hetc.ir.ops.shape import Broadcast, Concat, Reshape, Slice, Transpose, normalize_axis
from hetc.ir.ops.source import Constant, Iota
from hetc.ir.types import I64, TensorType


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


@onnx_op("ScatterElements", "Scatter")
def scatter_elements(ctx: Context, node: Node, x: Item, ids: Item, updates: Item) -> Item:
    axis = normalize_axis(node.get("axis", 0), x.rank)
    return ctx.emit(ops.PutAlong, x, ids, updates, axis, node.get("reduction", "none"))


def _places(ctx: Context, x: Item, axis: int) -> Item:
    shape = tuple(size if a == axis else 1 for a, size in enumerate(x.shape))
    return reshaped(ctx, ctx.emit(Iota, x.shape[axis]), shape)


@onnx_op("GatherND")
def gather_nd(ctx: Context, node: Node, x: Item, indices: Item) -> Item:
    batch = node.get("batch_dims", 0)
    parts = index_arrays(ctx, indices)
    if batch:
        rank = indices.rank - 1
        shape = indices.shape[:-1]
        own = tuple(
            reshaped(ctx, ctx.emit(Iota, shape[a]), (shape[a], *(1,) * (rank - 1 - a)))
            for a in range(batch)
        )
        parts = (*own, *parts)
    return ctx.emit(ops.Index, x, parts, tuple(range(len(parts))))


@onnx_op("ScatterND")
def scatter_nd(ctx: Context, node: Node, x: Item, indices: Item, updates: Item) -> Item:
    parts = index_arrays(ctx, indices)
    reduction = node.get("reduction", "none")
    if reduction in ("none", "add"):
        axes = tuple(range(len(parts)))
        return ctx.emit(ops.IndexPut, x, updates, parts, axes, accumulate=reduction == "add")
    # One index into the axes that are written, and a row for all others.
    count = len(parts)
    place = parts[0]
    for part, size in zip(parts[1:], x.shape[1:count], strict=True):
        place = ctx.emit(Add, ctx.emit(Mul, place, size), part)
    rows, width = product(indices.shape[:-1]), product(x.shape[count:])
    wide = ctx.emit(Broadcast, place, indices.shape[:-1])
    ids = ctx.emit(Broadcast, reshaped(ctx, wide, (rows, 1)), (rows, width))
    flat = reshaped(ctx, x, (product(x.shape[:count]), width))
    values = reshaped(ctx, updates, (rows, width))
    return reshaped(ctx, ctx.emit(ops.PutAlong, flat, ids, values, 0, reduction), x.shape)


def _places_of(ctx: Context, x: Item) -> Item:
    """Where `x` is not zero: a row of coordinates for each place, as many as data decide."""
    count = sum(isinstance(op, ops.NonZero) for op in ctx.builder.ops)
    return ctx.emit(ops.NonZero, x, f"U{count}")


@onnx_op("NonZero")
def non_zero(ctx: Context, node: Node, x: Item) -> Item:
    return ctx.emit(Transpose, _places_of(ctx, x), (1, 0))


@onnx_op("Compress")
def compress(ctx: Context, node: Node, x: Item, condition: Item) -> Item:
    axis = node.get("axis")
    source = reshaped(ctx, x, (x.type.size,)) if axis is None else x
    kept = elements(condition)
    if kept is not None:
        rows = tuple(place for place, flag in enumerate(kept) if flag)
        return ctx.emit(ops.Gather, source, ctx.emit(Constant, rows, I64), axis or 0)
    # The condition may be shorter than the axis; what it does not reach is left out.
    places = _places_of(ctx, condition)
    return ctx.emit(ops.Gather, source, reshaped(ctx, places, places.shape[:1]), axis or 0)


@onnx_op("ReverseSequence")
def reverse_sequence(ctx: Context, node: Node, x: Item, lengths: Item) -> Item:
    time, batch = node.get("time_axis", 0), node.get("batch_axis", 1)
    along = tuple(size if a == batch else 1 for a, size in enumerate(x.shape[:2]))
    ends = reshaped(ctx, converted(ctx, lengths, I64), along)
    steps = _places(ctx, Item(TensorType(I64, x.shape[:2])), time)
    turned = ctx.emit(Sub, ctx.emit(Sub, ends, 1), steps)
    source = ctx.emit(Where, ctx.emit(Lt, steps, ends), turned, steps)
    own = _places(ctx, Item(TensorType(I64, x.shape[:2])), batch)
    ids = (source, own) if time == 0 else (own, source)
    return ctx.emit(ops.Index, x, ids, (0, 1))


@onnx_op("TensorScatter")
def tensor_scatter(
    ctx: Context, node: Node, past: Item, update: Item, starts: Item | None = None
) -> Item:
    """Rows of `update` written into `past` from `starts[b]` on, at each sequence's own place."""
    axis = normalize_axis(node.get("axis", -2), past.rank)
    batch, rows = past.shape[0], update.shape[axis]
    places = ctx.emit(Iota, rows)
    if starts is not None:
        first = reshaped(ctx, converted(ctx, starts, I64), (batch, 1))
        places = ctx.emit(Add, first, places)
    else:
        places = reshaped(ctx, places, (1, rows))
    if node.get("mode", "linear") == "circular":
        places = ctx.emit(Mod, places, past.shape[axis])
    shape = tuple(batch if a == 0 else rows if a == axis else 1 for a in range(past.rank))
    wide = places if starts is not None else ctx.emit(Broadcast, places, (batch, rows))
    ids = ctx.emit(Broadcast, reshaped(ctx, wide, shape), update.shape)
    return ctx.emit(ops.PutAlong, past, ids, update, axis)


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
