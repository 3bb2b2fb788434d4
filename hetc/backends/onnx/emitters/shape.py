"""Moves and views."""

from __future__ import annotations

import numpy as np

from hetc.backends.onnx.elements import computed, kernel_type
from hetc.backends.onnx.table import Context, emits
from hetc.ir.dims import DimLike
from hetc.ir.ops.shape import (
    Broadcast,
    Concat,
    Flip,
    Pad,
    Reshape,
    Slice,
    Split,
    Tile,
    Transpose,
    normalize_axis,
)

# Slices end here where they end with the axis: ONNX clamps bounds to it.
END = np.iinfo(np.int64).max


@emits(Reshape)
def reshape(c: Context, op: Reshape) -> str:
    return c.sizes.reshape(c.w[op.x], op.x.shape, op.shape)


@emits(Transpose)
def transpose(c: Context, op: Transpose) -> str:
    return c.w.transpose(c.w[op.x], op.perm)


@emits(Broadcast)
def broadcast(c: Context, op: Broadcast) -> str:
    return c.sizes.expand(c.w[op.x], op.x.shape, op.shape)


@emits(Slice)
def slice_(c: Context, op: Slice) -> str:
    stop = END if op.stop is None else op.stop
    return cut(c, c.w[op.x], normalize_axis(op.axis, op.x.rank), op.start, stop, op.step)


def cut(
    c: Context, name: str, axis: int, start: DimLike, stop: DimLike = END, step: int = 1
) -> str:
    """Elements from `start` up to `stop` along one axis."""
    if start == 0 and stop == END and step == 1:
        return name
    bounds = (c.sizes.single(start), c.sizes.single(stop))
    return c.w.node("Slice", name, *bounds, c.w.ints([axis]), c.w.ints([step]))


@emits(Concat)
def concat(c: Context, op: Concat) -> str:
    if len(op.xs) == 1:
        return c.w[op.xs[0]]
    return c.w.node("Concat", *c.w.read(op.xs), axis=normalize_axis(op.axis, op.xs[0].rank))


@emits(Split)
def split(c: Context, op: Split) -> tuple[str, ...]:
    axis, count = normalize_axis(op.axis, op.x.rank), len(op.sizes)
    sizes = c.sizes.vector(op.sizes)
    return c.w.split("Split", c.w[op.x], sizes, outputs=count, axis=axis)


@emits(Pad, kernels=("Pad",))
def pad(c: Context, op: Pad) -> str:
    dtype = op.x.dtype
    works = kernel_type("Pad", dtype)
    assert works is not None
    filler = c.w.constant(np.asarray(op.value, dtype=dtype.numpy), works)
    widths = c.sizes.vector((*op.low, *op.high))
    if works is computed(dtype):
        return c.w.node("Pad", c.w[op.x], widths, filler)
    return c.w.cast(c.w.node("Pad", c.w.cast(c.w[op.x], works), widths, filler), dtype)


@emits(Flip)
def flip(c: Context, op: Flip) -> str:
    if not op.axes:
        return c.w[op.x]
    count = len(op.axes)
    axes = [normalize_axis(axis, op.x.rank) for axis in op.axes]
    bounds = (c.w.ints([-1] * count), c.w.ints([-END] * count))
    return c.w.node("Slice", c.w[op.x], *bounds, c.w.ints(axes), c.w.ints([-1] * count))


@emits(Tile)
def tile(c: Context, op: Tile) -> str:
    return c.w.node("Tile", c.w[op.x], c.sizes.vector(op.repeats)) if op.repeats else c.w[op.x]
