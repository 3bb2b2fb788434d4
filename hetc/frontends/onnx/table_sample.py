"""Operators that read images at places between their pixels: the place decides which pixels count,
and by how much.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hetc.frontends.onnx.context import Context, Unsupported, onnx_op
from hetc.frontends.onnx.item import Item
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.table_elementwise import converted
from hetc.frontends.onnx.table_shape import reshaped
from hetc.frontends.onnx.table_source import literal, require_small
from hetc.ir.dims import DimLike, product
from hetc.ir.ops import elementwise as ew
from hetc.ir.ops.index import Gather, TakeAlong
from hetc.ir.ops.linear import MatMul
from hetc.ir.ops.reduce import Mean, ReduceMax
from hetc.ir.ops.shape import Broadcast, Slice
from hetc.ir.types import I64

# Keys' cubic kernel with the parameter that ONNX fixes for GridSample.
_CUBIC = -0.75


@dataclass(frozen=True)
class Tap:
    """One pixel along one axis that a place reads: its index (a float), and its weight."""

    index: Item
    weight: Item | None


def _flat(ctx: Context, x: Item) -> Item:
    """`x [N, C, *D]` as `[N, C, D]`."""
    return reshaped(ctx, x, (*x.shape[:2], product(x.shape[2:])))


def _pick(ctx: Context, flat: Item, ids: Item) -> Item:
    """`flat [N, C, D]` at the places `ids [N, K]`: `[N, C, K]`."""
    batch, channels, _ = flat.shape
    spread = reshaped(ctx, ids, (ids.shape[0], 1, ids.shape[1]))
    wide = ctx.emit(Broadcast, spread, (batch, channels, ids.shape[1]))
    return ctx.emit(TakeAlong, flat, wide, 2)


def _inside(ctx: Context, index: Item, size: int) -> Item:
    low = ctx.emit(ew.Ge, index, 0.0)
    return ctx.emit(ew.And, low, ctx.emit(ew.Le, index, float(size - 1)))


def _clipped(ctx: Context, index: Item, size: int) -> Item:
    return ctx.emit(ew.Minimum, ctx.emit(ew.Maximum, index, 0.0), float(size - 1))


def _sampled(
    ctx: Context, flat: Item, dims: Sequence[int], taps: Sequence[Sequence[Tap]]
) -> list[Item]:
    """The weighted pixels `[N, C, K]` of every choice of one tap an axis."""
    found = []
    for choice in itertools.product(*taps):
        place: Item | None = None
        weight: Item | None = None
        for size, tap in zip(dims, choice, strict=True):
            index = ctx.emit(ew.Cast, tap.index, I64)
            place = (
                index if place is None else ctx.emit(ew.Add, ctx.emit(ew.Mul, place, size), index)
            )
            if tap.weight is not None:
                weight = tap.weight if weight is None else ctx.emit(ew.Mul, weight, tap.weight)
        assert place is not None, "an image has an axis"
        pixel = _pick(ctx, flat, place)
        if weight is not None:
            factor = reshaped(ctx, weight, (weight.shape[0], 1, weight.shape[1]))
            pixel = ctx.emit(ew.Mul, pixel, converted(ctx, factor, pixel.dtype))
        found.append(pixel)
    return found


def _total(ctx: Context, parts: Sequence[Item]) -> Item:
    total = parts[0]
    for part in parts[1:]:
        total = ctx.emit(ew.Add, total, part)
    return total


def _linear_taps(ctx: Context, place: Item) -> list[Tap]:
    floor = ctx.emit(ew.Floor, place)
    part = ctx.emit(ew.Sub, place, floor)
    return [Tap(floor, ctx.emit(ew.Sub, 1.0, part)), Tap(ctx.emit(ew.Add, floor, 1.0), part)]


def _cubic_taps(ctx: Context, place: Item) -> list[Tap]:
    floor = ctx.emit(ew.Floor, place)
    part = ctx.emit(ew.Sub, place, floor)
    taps = []
    for step in (-1, 0, 1, 2):
        distance = ctx.emit(ew.Abs, ctx.emit(ew.Sub, part, float(step)))
        a = _CUBIC
        near = (a + 2, -(a + 3), 0.0, 1.0)
        far = (a, -5 * a, 8 * a, -4 * a)
        weight = _polynomial(ctx, distance, near if step in (0, 1) else far)
        taps.append(Tap(ctx.emit(ew.Add, floor, float(step)), weight))
    return taps


def _polynomial(ctx: Context, x: Item, factors: Sequence[float]) -> Item:
    total = ctx.emit(ew.Mul, x, factors[0])
    for factor in factors[1:-1]:
        total = ctx.emit(ew.Mul, ctx.emit(ew.Add, total, factor), x)
    return ctx.emit(ew.Add, total, factors[-1])


def _reflected(ctx: Context, x: Item, low: float, high: float) -> Item:
    """`x` mirrored at both ends until it lies between them: a triangle wave."""
    span = high - low
    if span == 0:
        return ctx.emit(ew.Mul, x, 0.0)
    turn = ctx.emit(ew.Mod, ctx.emit(ew.Sub, x, low), 2 * span)
    folded = ctx.emit(ew.Minimum, turn, ctx.emit(ew.Sub, 2 * span, turn))
    return ctx.emit(ew.Add, folded, low)


@onnx_op("GridSample")
def grid_sample(ctx: Context, node: Node, x: Item, grid: Item) -> Item:
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(node.get("mode"), node.get("mode"))
    padding, aligned = node.get("padding_mode", "zeros"), bool(node.get("align_corners", 0))
    dims = [size for size in x.shape[2:] if isinstance(size, int)]
    if len(dims) != x.rank - 2:
        raise Unsupported("images of a size that varies")
    batch, *out, count = grid.shape
    flat = reshaped(ctx, grid, (batch, product(out), count))
    taps = []
    for axis, size in enumerate(dims):
        # The last axis of the image comes first in the grid.
        part = ctx.emit(Slice, flat, 2, len(dims) - 1 - axis, len(dims) - axis)
        place = _on_axis(ctx, reshaped(ctx, part, flat.shape[:2]), size, aligned)
        if mode == "nearest":
            place = ctx.emit(ew.Round, place)
        low, high = (0.0, size - 1.0) if aligned else (-0.5, size - 0.5)
        if padding == "border":
            outside = ctx.emit(ew.Or, ctx.emit(ew.Lt, place, low), ctx.emit(ew.Gt, place, high))
            place = ctx.emit(ew.Where, outside, _clipped(ctx, place, size), place)
        elif padding == "reflection":
            place = _reflected(ctx, place, low, high)
        if mode == "nearest":
            found = [Tap(place, None)]
        else:
            found = (_cubic_taps if mode == "cubic" else _linear_taps)(ctx, place)
        taps.append([_tap_inside(ctx, tap, size, padding, low, high) for tap in found])
    made = _total(ctx, _sampled(ctx, _flat(ctx, x), dims, taps))
    return reshaped(ctx, made, (*x.shape[:2], *out))


def _on_axis(ctx: Context, grid: Item, size: int, aligned: bool) -> Item:
    """A place from -1 to 1 in pixels: the ends are centres of pixels, or their outer edges."""
    shifted = ctx.emit(ew.Add, grid, 1.0)
    if aligned:
        return ctx.emit(ew.Mul, shifted, (size - 1) / 2)
    return ctx.emit(ew.Mul, ctx.emit(ew.Sub, ctx.emit(ew.Mul, shifted, float(size)), 1.0), 0.5)


def _tap_inside(ctx: Context, tap: Tap, size: int, padding: str, low: float, high: float) -> Tap:
    if padding == "reflection":
        return Tap(_clipped(ctx, _reflected(ctx, tap.index, low, high), size), tap.weight)
    index = _clipped(ctx, tap.index, size)
    if padding == "border":
        return Tap(index, tap.weight)
    counts = converted(ctx, _inside(ctx, tap.index, size), index.dtype)
    weight = counts if tap.weight is None else ctx.emit(ew.Mul, tap.weight, counts)
    return Tap(index, weight)


@onnx_op("DeformConv")
def deform_conv(
    ctx: Context,
    node: Node,
    x: Item,
    weight: Item,
    offset: Item,
    bias: Item | None = None,
    mask: Item | None = None,
) -> Item:
    """A convolution of two axes whose taps are moved by `offset` (Dai et al. 2017)."""
    sizes = (*x.shape[1:], *weight.shape, *offset.shape[1:])
    if x.rank != 4 or not all(isinstance(size, int) for size in sizes):
        raise Unsupported("a deformable convolution that is not of fixed images")
    channels, *dims = (int(str(size)) for size in x.shape[1:])
    outputs, _, *taps = (int(str(size)) for size in weight.shape)
    out = [int(str(size)) for size in offset.shape[2:]]
    stride = node.get("strides") or (1, 1)
    pads, dilation = node.get("pads") or (0,) * 4, node.get("dilations") or (1, 1)
    groups, moved = node.get("group", 1), node.get("offset_group", 1)
    batch, count, places = x.shape[0], taps[0] * taps[1], out[0] * out[1]
    require_small(count, places)
    shifts = reshaped(ctx, offset, (batch * moved, count, 2, places))
    found = []
    for axis in range(2):
        tap = np.arange(taps[axis]) * dilation[axis]
        start = np.arange(out[axis]) * stride[axis] - pads[axis]
        shape = [1, 1, 1, 1]
        grid = tap.reshape(-1, 1) + start
        shape[axis], shape[axis + 2] = grid.shape
        base = np.broadcast_to(grid.reshape(shape), (*taps, *out)).reshape(1, count, places)
        where = literal(
            ctx, f"{node.outputs[0]}_places{axis}", base.astype(offset.dtype.numpy), offset.dtype
        )
        part = ctx.emit(Slice, shifts, 2, axis, axis + 1)
        part = reshaped(ctx, part, (batch * moved, count, places))
        place = reshaped(ctx, ctx.emit(ew.Add, part, where), (batch * moved, count * places))
        taps_here = _linear_taps(ctx, place)
        found.append([_tap_inside(ctx, t, dims[axis], "zeros", 0, 0) for t in taps_here])
    image = reshaped(ctx, x, (batch * moved, channels // moved, dims[0] * dims[1]))
    columns = _total(ctx, _sampled(ctx, image, dims, found))
    if mask is not None:
        factor = reshaped(ctx, mask, (batch * moved, 1, count * places))
        columns = ctx.emit(ew.Mul, columns, factor)
    columns = reshaped(ctx, columns, (batch, groups, channels // groups * count, places))
    filters = reshaped(ctx, weight, (groups, outputs // groups, channels // groups * count))
    made = reshaped(ctx, ctx.emit(MatMul, filters, columns), (batch, outputs, *out))
    if bias is None:
        return made
    return ctx.emit(ew.Add, made, reshaped(ctx, bias, (outputs, 1, 1)))


@onnx_op("RoiAlign")
def roi_align(ctx: Context, node: Node, x: Item, rois: Item, batch: Item) -> Item:
    """The mean, or the maximum, of some places in each cell of a box (He et al. 2017)."""
    dims = [size for size in x.shape[2:] if isinstance(size, int)]
    per_cell = node.get("sampling_ratio", 0)
    if len(dims) != 2 or per_cell < 1:
        raise Unsupported("boxes in images of a size that varies, or with places by their size")
    half = node.get("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    cells = (node.get("output_height", 1), node.get("output_width", 1))
    require_small(*cells, per_cell, per_cell)
    images = ctx.emit(Gather, _flat(ctx, x), batch, 0)
    boxes = ctx.emit(ew.Mul, rois, node.get("spatial_scale", 1.0))
    if half:
        boxes = ctx.emit(ew.Sub, boxes, 0.5)
    count = boxes.shape[0]
    taps = []
    for axis, size in enumerate(dims):
        # A box is x1, y1, x2, y2; the first axis of an image is y.
        start, end = (ctx.emit(Slice, boxes, 1, at, at + 1) for at in (1 - axis, 3 - axis))
        extent = ctx.emit(ew.Sub, end, start)
        if not half:
            extent = ctx.emit(ew.Maximum, extent, 1.0)
        steps = (np.arange(cells[axis] * per_cell) + 0.5) / (cells[axis] * per_cell)
        shares = literal(
            ctx, f"{node.outputs[0]}_steps{axis}", steps.astype(x.dtype.numpy), x.dtype
        )
        place = ctx.emit(ew.Add, start, ctx.emit(ew.Mul, extent, shares))
        near = ctx.emit(ew.And, ctx.emit(ew.Ge, place, -1.0), ctx.emit(ew.Le, place, float(size)))
        counts = converted(ctx, near, x.dtype)
        found = _linear_taps(ctx, _clipped(ctx, place, size))
        shape = (count, len(steps), 1) if axis == 0 else (count, 1, len(steps))
        taps.append([_spread(ctx, tap, counts, size, shape, cells, per_cell) for tap in found])
    pixels = _sampled(ctx, images, dims, taps)
    channels = x.shape[1]
    split = (count, channels, cells[0], per_cell, cells[1], per_cell)
    if node.get("mode", "avg") == "avg":
        return ctx.emit(Mean, reshaped(ctx, _total(ctx, pixels), split), (3, 5))
    # The largest of the weighted pixels, not of their sums: the operator is defined so.
    best = pixels[0]
    for pixel in pixels[1:]:
        best = ctx.emit(ew.Maximum, best, pixel)
    return ctx.emit(ReduceMax, reshaped(ctx, best, split), (3, 5))


def _spread(
    ctx: Context,
    tap: Tap,
    counts: Item,
    size: int,
    shape: tuple[DimLike, ...],
    cells: tuple[int, int],
    per_cell: int,
) -> Tap:
    """A tap of each row or column as one of each place `[R, rows * columns]`."""
    assert tap.weight is not None, "a linear tap"
    full = (shape[0], cells[0] * per_cell, cells[1] * per_cell)

    def wide(item: Item) -> Item:
        spread = ctx.emit(Broadcast, reshaped(ctx, item, shape), full)
        return reshaped(ctx, spread, (full[0], full[1] * full[2]))

    return Tap(wide(_clipped(ctx, tap.index, size)), wide(ctx.emit(ew.Mul, tap.weight, counts)))
