"""Operators that move, view or cut tensors."""

from __future__ import annotations

import math

import numpy as np

from hetc.errors import IRError
from hetc.frontends.onnx.bounds import at_least, at_most, less
from hetc.frontends.onnx.context import Context, Unsupported, onnx_op
from hetc.frontends.onnx.item import Item, SequenceItem, WeightItem
from hetc.frontends.onnx.known import elements
from hetc.frontends.onnx.nodes import Node
from hetc.ir.dims import DimLike, exact_div, product
from hetc.ir.ops import shape as ops
from hetc.ir.ops.elementwise import Where, broadcast_shapes
from hetc.ir.ops.index import Gather
from hetc.ir.ops.shape import normalize_axis
from hetc.ir.ops.source import Constant, Full
from hetc.ir.types import BOOL, I64, Shape

# Exporters write "to the end" as the greatest number of 32 or 64 bits.
_ENDLESS = 2**31 - 1
# A sequence of tensors becomes that many values.
_MAX_PARTS = 2**16


def reshaped(ctx: Context, x: Item, shape: Shape) -> Item:
    """`x` under another shape; a weight is reshaped when it is loaded."""
    if shape == x.shape:
        return x
    if isinstance(x, WeightItem):
        target = tuple(int(dim) for dim in shape if isinstance(dim, int))
        return ctx.derive(x, "reshaped", target, x.dtype, lambda data: data.reshape(target))
    return ctx.emit(ops.Reshape, x, shape)


def axes_of(node: Node, axes: Item | None, rank: int) -> tuple[int, ...] | None:
    """The `axes` of a node, an input since opset 13 and an attribute before, counted from the
    front; None where not given.
    """
    given = elements(axes) if axes is not None else node.get("axes")
    if axes is not None and given is None:
        raise Unsupported("axes that depend on data")
    return None if given is None else tuple(normalize_axis(axis, rank) for axis in given)


@onnx_op("Reshape")
def reshape(ctx: Context, node: Node, x: Item, shape: Item | None = None) -> Item:
    target = list(ctx.dims(shape, "shape") if shape is not None else node.get("shape"))
    for axis, dim in enumerate(target):
        if dim == 0 and not node.get("allowzero", 0):
            target[axis] = x.shape[axis]
    if -1 in target:
        free = target.index(-1)
        target[free] = exact_div(
            x.type.size, product(dim for i, dim in enumerate(target) if i != free)
        )
    return reshaped(ctx, x, tuple(target))


@onnx_op("Flatten")
def flatten(ctx: Context, node: Node, x: Item) -> Item:
    axis = normalize_axis(node.get("axis", 1), x.rank)
    return reshaped(ctx, x, (product(x.shape[:axis]), product(x.shape[axis:])))


@onnx_op("Squeeze")
def squeeze(ctx: Context, node: Node, x: Item, axes: Item | None = None) -> Item:
    gone = axes_of(node, axes, x.rank)
    if gone is None:
        gone = tuple(axis for axis, dim in enumerate(x.shape) if dim == 1)
    return reshaped(ctx, x, tuple(dim for axis, dim in enumerate(x.shape) if axis not in gone))


@onnx_op("Unsqueeze")
def unsqueeze(ctx: Context, node: Node, x: Item, axes: Item | None = None) -> Item:
    given = elements(axes) if axes is not None else node.get("axes")
    if given is None:
        raise Unsupported("axes that depend on data")
    rank = x.rank + len(given)
    new = sorted({normalize_axis(axis, rank) for axis in given})
    if len(new) != len(given) or not set(new) <= set(range(rank)):
        raise ValueError(f"axes {given} of a tensor with {rank} axes")
    shape = list(x.shape)
    for axis in new:
        shape.insert(axis, 1)
    return reshaped(ctx, x, tuple(shape))


@onnx_op("Transpose")
def transpose(ctx: Context, node: Node, x: Item) -> Item:
    perm = node.get("perm") or tuple(reversed(range(x.rank)))
    if perm == tuple(range(x.rank)):
        return x
    if sorted(perm) != list(range(x.rank)):
        found = f"perm {list(perm)} of {x.rank} axes"
        raise IRError("HETC-X010", "transpose: perm must name every axis once", found=found)
    if isinstance(x, WeightItem):
        if perm == (1, 0):
            return ctx.transposed(x)
        shape = tuple(x.data.shape[axis] for axis in perm)
        return ctx.derive(
            x,
            "transposed_" + "".join(map(str, perm)),
            shape,
            x.dtype,
            lambda data: np.transpose(data, perm),
        )
    return ctx.emit(ops.Transpose, x, perm)


@onnx_op("Expand")
def expand(ctx: Context, node: Node, x: Item, shape: Item) -> Item:
    target = broadcast_shapes(x.shape, ctx.dims(shape, "shape"))
    if target is None:
        raise Unsupported(f"an expansion from {x.type} to {shape.known}")
    return x if target == x.shape else ctx.emit(ops.Broadcast, x, target)


@onnx_op("Concat")
def concat(ctx: Context, node: Node, *xs: Item) -> Item:
    axis = node.get("axis", 1)
    parts = tuple(x for x in xs if x.rank > 1 or x.shape[0] != 0) or xs[:1]
    return parts[0] if len(parts) == 1 else ctx.emit(ops.Concat, parts, axis)


@onnx_op("Slice")
def slice_(
    ctx: Context,
    node: Node,
    x: Item,
    starts: Item | None = None,
    ends: Item | None = None,
    axes: Item | None = None,
    steps: Item | None = None,
) -> Item:
    first = ctx.dims(starts, "start of a slice") if starts is not None else node.get("starts")
    last = ctx.dims(ends, "end of a slice") if ends is not None else node.get("ends")
    along = axes_of(node, axes, x.rank) or tuple(range(len(first)))
    strides = elements(steps, (1,) * len(first))
    if strides is None:
        raise Unsupported("steps that depend on data")
    for start, stop, axis, step in zip(first, last, along, strides, strict=True):
        x = _cut(ctx, x, axis, start, stop, step)
    return x


def _cut(ctx: Context, x: Item, axis: int, start: DimLike, stop: DimLike, step: int) -> Item:
    size = x.shape[axis]
    if step < 0:
        return _cut_backwards(ctx, x, axis, start, stop, step)
    begin, end = bound_inside(ctx, start, size), bound_inside(ctx, stop, size)
    if less(end, begin):
        end = begin
    if begin == 0 and end == size and step == 1:
        return x
    return ctx.emit(ops.Slice, x, axis, begin, end, step)


def _cut_backwards(
    ctx: Context, x: Item, axis: int, start: DimLike, stop: DimLike, step: int
) -> Item:
    size = x.shape[axis]
    if isinstance(size, int) and isinstance(start, int) and isinstance(stop, int):
        first, last, _ = slice(start, stop, step).indices(size)
        rows = range(first, last, step)
        if not rows:
            return ctx.emit(ops.Slice, x, axis, 0, 0)
        # The same rows forwards, turned around.
        kept = ctx.emit(ops.Slice, x, axis, rows[-1], rows[0] + 1, -step)
        return ctx.emit(ops.Flip, kept, (axis,))
    whole = start in (-1, size - 1) or at_least(start - size) is not None
    most = at_most(stop)
    if step != -1 or not whole or not isinstance(stop, int) or most is None or most > -_ENDLESS:
        raise Unsupported("a slice that runs backwards along a size that varies")
    return ctx.emit(ops.Flip, x, (axis,))


def bound_inside(ctx: Context, bound: DimLike, size: DimLike) -> DimLike:
    """A slice bound counted from the front and cut to `size`; what cannot be decided bounds the
    sequence or is unsupported.
    """
    if isinstance(bound, int) and abs(bound) >= _ENDLESS:
        return size if bound > 0 else 0
    most = at_most(bound)
    if most is not None and most < 0:
        bound = bound + size
        lowest = at_most(bound)
        if lowest is not None and lowest <= 0:
            return 0
    beyond = less(size, bound)
    if beyond:
        return size
    if beyond is None and not (isinstance(size, int) and ctx.limit(bound, size)):
        raise Unsupported(f"a slice up to {bound} of {size} elements")
    least = at_least(bound)
    if least is None or least < 0:
        raise Unsupported(f"a slice from {bound} of {size} elements")
    return bound


@onnx_op("Split")
def split(ctx: Context, node: Node, x: Item, sizes: Item | None = None) -> tuple[Item, ...]:
    axis = normalize_axis(node.get("axis", 0), x.rank)
    given = ctx.dims(sizes, "sizes of the parts") if sizes is not None else node.get("split")
    if given is None:
        parts = len(node.outputs)
        total = x.shape[axis]
        if isinstance(total, int):
            width = math.ceil(total / parts)
            given = tuple(min(width, total - i * width) for i in range(parts))
        else:
            given = (exact_div(total, parts),) * parts
    return ctx.emit_all(ops.Split, x, axis, tuple(given))


@onnx_op("Tile")
def tile(ctx: Context, node: Node, x: Item, repeats: Item) -> Item:
    return ctx.emit(ops.Tile, x, ctx.dims(repeats, "repeats"))


@onnx_op("Pad")
def pad(
    ctx: Context,
    node: Node,
    x: Item,
    widths: Item | None = None,
    value: Item | None = None,
    axes: Item | None = None,
) -> Item:
    mode = node.get("mode", "constant")
    given = ctx.dims(widths, "padding") if widths is not None else node.get("pads")
    along = axes_of(node, axes, x.rank) or tuple(range(x.rank))
    low: list[DimLike] = [0] * x.rank
    high: list[DimLike] = [0] * x.rank
    for i, axis in enumerate(along):
        low[axis], high[axis] = given[i], given[i + len(along)]
    if mode != "constant":
        return _padded_by(ctx, x, mode, low, high)
    fill = node.get("value", 0) if value is None else value.literal()
    if fill is not None:
        return ctx.emit(ops.Pad, x, tuple(low), tuple(high), fill)
    # A number that data decide takes the place of what a mask says is padding.
    assert value is not None, "an absent value is a literal"
    padded = ctx.emit(ops.Pad, x, tuple(low), tuple(high), 0)
    inside = ctx.emit(Full, True, x.shape, BOOL)
    kept = ctx.emit(ops.Pad, inside, tuple(low), tuple(high), False)
    return ctx.emit(Where, kept, padded, reshaped(ctx, value, ()))


def _padded_by(ctx: Context, x: Item, mode: str, low: list[DimLike], high: list[DimLike]) -> Item:
    """Padding with elements of `x` itself: a choice of rows along each axis."""
    numpy_modes = {"edge": "edge", "reflect": "reflect", "wrap": "wrap"}
    for axis, (before, after) in enumerate(zip(low, high, strict=True)):
        size = x.shape[axis]
        if before == after == 0:
            continue
        if mode not in numpy_modes or not (
            isinstance(size, int) and isinstance(before, int) and isinstance(after, int)
        ):
            raise Unsupported(f"padding by {mode} along a size that varies")
        if size + abs(before) + abs(after) > _MAX_PARTS:
            raise Unsupported(f"padding by {mode} to more than {_MAX_PARTS} elements")
        rows = np.arange(size)[max(-before, 0) : size - max(-after, 0)]
        widths = (max(before, 0), max(after, 0))
        ids = np.pad(rows, widths, mode=numpy_modes[mode])  # type: ignore[call-overload]
        x = ctx.emit(Gather, x, ctx.emit(Constant, tuple(map(int, ids)), I64), axis)
    return x


@onnx_op("SplitToSequence")
def split_to_sequence(ctx: Context, node: Node, x: Item, sizes: Item | None = None) -> SequenceItem:
    axis = normalize_axis(node.get("axis", 0), x.rank)
    total = x.shape[axis]
    given = (1,) if sizes is None else elements(sizes)
    if given is None or not isinstance(total, int):
        raise Unsupported("a sequence whose length depends on data")
    if total > _MAX_PARTS:
        raise Unsupported(f"a sequence of {total} tensors")
    if sizes is None or sizes.rank == 0:
        given = tuple(min(given[0], total - start) for start in range(0, total, given[0]))
    parts = ctx.emit_all(ops.Split, x, axis, given)
    if sizes is None and not node.get("keepdims", 1):
        parts = tuple(
            reshaped(ctx, part, (*x.shape[:axis], *x.shape[axis + 1 :])) for part in parts
        )
    return SequenceItem(parts)


@onnx_op("SequenceConstruct")
def sequence_construct(ctx: Context, node: Node, *xs: Item) -> SequenceItem:
    return SequenceItem(xs)


@onnx_op("SequenceAt")
def sequence_at(ctx: Context, node: Node, xs: SequenceItem, position: Item) -> Item:
    at = elements(position)
    if at is None:
        raise Unsupported("a position that depends on data")
    return xs[at[0]]


@onnx_op("ConcatFromSequence")
def concat_from_sequence(ctx: Context, node: Node, xs: SequenceItem) -> Item:
    axis = node.get("axis", 0)
    if not node.get("new_axis", 0):
        return ctx.emit(ops.Concat, tuple(xs), axis)
    at = normalize_axis(axis, xs[0].rank + 1)
    parts = tuple(reshaped(ctx, x, (*x.shape[:at], 1, *x.shape[at:])) for x in xs)
    return ctx.emit(ops.Concat, parts, at)
