"""Fourier transforms and what goes with them, of a length known at import: products with matrices
of sines and cosines.
"""

from __future__ import annotations

import numpy as np

from hetc.frontends.onnx.context import Context, Unsupported, onnx_op
from hetc.frontends.onnx.item import Item
from hetc.frontends.onnx.known import elements
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.table_shape import reshaped
from hetc.frontends.onnx.table_source import literal, require_small
from hetc.frontends.onnx.tensors import dtype_named
from hetc.ir.ops import elementwise as ew
from hetc.ir.ops.index import Gather
from hetc.ir.ops.linear import Linear
from hetc.ir.ops.shape import Concat, Pad, Slice, Transpose, normalize_axis
from hetc.ir.types import Array


@onnx_op("DFT")
def dft(
    ctx: Context, node: Node, x: Item, length: Item | None = None, axis: Item | None = None
) -> Item:
    if node.version >= 20:
        along = elements(axis, (-2,))
    else:
        along = (node.get("axis", 1),)
    if along is None:
        raise Unsupported("a transform along an axis that depends on data")
    return _transform(
        ctx,
        node,
        x,
        normalize_axis(along[0], x.rank),
        _number(length),
        inverse=bool(node.get("inverse", 0)),
        onesided=bool(node.get("onesided", 0)),
    )


def _number(item: Item | None) -> int | None:
    if item is None:
        return None
    number = item.literal()
    if not isinstance(number, int):
        raise Unsupported("a transform whose length depends on data or sizes")
    return number


def _transform(
    ctx: Context,
    node: Node,
    x: Item,
    axis: int,
    length: int | None,
    *,
    inverse: bool,
    onesided: bool,
) -> Item:
    """`x [..., N, ..., 1 or 2]` (real, or real and imaginary parts) along `axis`."""
    size, parts = x.shape[axis], x.shape[-1]
    if not isinstance(size, int):
        raise Unsupported("a transform along an axis whose size varies")
    half = inverse and onesided
    if length is None:
        length = 2 * (size - 1) if half else size
    x = _with_length(ctx, x, axis, size, length // 2 + 1 if half else length)
    count = length // 2 + 1 if onesided and not inverse else length
    require_small(length, count)
    cosines, sines = _matrices(length, count, inverse=inverse)
    if half:
        cosines, sines = _folded(cosines, length), _folded(sines, length)
    name = node.outputs[0]
    c, s = (
        literal(ctx, f"{name}_{kind}", matrix.astype(x.dtype.numpy), x.dtype)
        for kind, matrix in (("cosines", cosines), ("sines", sines))
    )
    last = x.rank - 2
    perm = [a for a in range(x.rank - 1) if a != axis] + [axis]
    back = tuple(map(int, np.argsort(perm)))

    def part(index: int) -> Item:
        cut = ctx.emit(Slice, x, x.rank - 1, index, index + 1)
        flat = reshaped(ctx, cut, cut.shape[:-1])
        return flat if axis == last else ctx.emit(Transpose, flat, tuple(perm))

    def placed(made: Item) -> Item:
        turned = made if axis == last else ctx.emit(Transpose, made, back)
        return reshaped(ctx, turned, (*turned.shape, 1))

    real = part(0)
    if parts == 1:
        made = [ctx.emit(Linear, real, c), ctx.emit(Linear, real, s)]
    else:
        imaginary = part(1)
        made = [
            ctx.emit(ew.Sub, ctx.emit(Linear, real, c), ctx.emit(Linear, imaginary, s)),
            ctx.emit(ew.Add, ctx.emit(Linear, real, s), ctx.emit(Linear, imaginary, c)),
        ]
    if half:
        return placed(made[0])
    return ctx.emit(Concat, tuple(map(placed, made)), -1)


def _with_length(ctx: Context, x: Item, axis: int, size: int, wanted: int) -> Item:
    if wanted == size:
        return x
    if wanted < size:
        return ctx.emit(Slice, x, axis, 0, wanted)
    high = tuple(wanted - size if a == axis else 0 for a in range(x.rank))
    return ctx.emit(Pad, x, (0,) * x.rank, high, 0)


def _matrices(length: int, count: int, *, inverse: bool) -> tuple[Array, Array]:
    """Real and imaginary part of exp(-+2 pi i k n / N), rows k below `count`."""
    turns = np.outer(np.arange(count), np.arange(length)) % length / length
    angles = 2 * np.pi * turns * (1 if inverse else -1)
    scale = 1 / length if inverse else 1
    return np.cos(angles) * scale, np.sin(angles) * scale


def _folded(matrix: Array, length: int) -> Array:
    """For a real signal the upper half of a spectrum mirrors the lower: columns count twice, but
    for that of frequency 0 and the one in the middle.
    """
    kept = matrix[:, : length // 2 + 1].copy()
    kept[:, 1 : (length + 1) // 2] *= 2
    return kept


@onnx_op("STFT")
def stft(
    ctx: Context,
    node: Node,
    x: Item,
    step: Item,
    window: Item | None = None,
    length: Item | None = None,
) -> Item:
    width = _number(length)
    if width is None and window is not None and isinstance(window.shape[0], int):
        width = window.shape[0]
    stride, total = _number(step), x.shape[1]
    if width is None or stride is None or not isinstance(total, int):
        raise Unsupported("frames of a length that varies")
    require_small(total, width)
    signal = x if x.rank == 3 else reshaped(ctx, x, (*x.shape, 1))
    starts = np.arange(0, total - width + 1, stride)[:, None]
    ids = literal(ctx, f"{node.outputs[0]}_frames", starts + np.arange(width))
    frames = ctx.emit(Gather, signal, ids, 1)
    if window is not None:
        frames = ctx.emit(ew.Mul, frames, reshaped(ctx, window, (*window.shape, 1)))
    onesided = bool(node.get("onesided", 1))
    return _transform(ctx, node, frames, 2, width, inverse=False, onesided=onesided)


@onnx_op("MelWeightMatrix")
def mel_weight_matrix(
    ctx: Context, node: Node, bins: Item, length: Item, rate: Item, low: Item, high: Item
) -> Item:
    """Triangles with corners that are evenly spaced in mels, 2595 log10(1 + f / 700)."""
    given = [item.literal() for item in (bins, length, rate, low, high)]
    if not all(isinstance(number, int | float) for number in given):
        raise Unsupported("a filter bank whose sizes depend on data")
    count, size, sampling, lowest, highest = (float(str(number)) for number in given)

    def mel(hertz: float) -> float:
        return 2595 * float(np.log10(1 + hertz / 700))

    spectrum = int(size) // 2 + 1
    require_small(spectrum, int(count) + 2)
    step = (mel(highest) - mel(lowest)) / (int(count) + 2)
    mels = mel(lowest) + np.arange(int(count) + 2) * step
    corners = np.floor((size + 1) * 700 * (10 ** (mels / 2595) - 1) / sampling).astype(int)
    matrix = np.zeros((spectrum, int(count)))
    for column in range(int(count)):
        left, top, right = corners[column : column + 3]
        for row in range(left, top):
            matrix[row, column] = (row - left) / (top - left)
        matrix[top, column] = 1
        for row in range(top + 1, right):
            matrix[row, column] = (right - row) / (right - top)
    dtype = dtype_named(node.get("output_datatype", 1), node.title)
    return literal(ctx, node.outputs[0], matrix.astype(dtype.numpy), dtype)
