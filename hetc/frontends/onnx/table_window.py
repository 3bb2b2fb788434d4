"""Operators over windows: convolutions, pooling, and what is made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hetc.frontends.onnx.context import Context, Unsupported, onnx_op
from hetc.frontends.onnx.item import Item
from hetc.frontends.onnx.known import elements
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.table_shape import reshaped
from hetc.frontends.onnx.table_source import literal, require_small
from hetc.ir.dims import DimLike, product
from hetc.ir.ops import elementwise as ew
from hetc.ir.ops import window as ops
from hetc.ir.ops.index import PutAlong
from hetc.ir.ops.reduce import Mean, ReduceMax, Sum
from hetc.ir.ops.sequence import Conv1dCausal
from hetc.ir.ops.shape import Pad
from hetc.ir.ops.source import Full, Iota
from hetc.ir.types import Shape

Ints = tuple[int, ...]


@dataclass(frozen=True)
class Lie:
    """How windows lie over an input: see `hetc.ir.ops.window`."""

    taps: Ints
    stride: Ints
    low: Ints
    high: Ints
    dilation: Ints


def _lie(node: Node, x: Item, taps: Sequence[DimLike]) -> Lie:
    """The attributes of a convolution or a pool; raises Unsupported where padding by a rule depends
    on a size that varies.
    """
    count = x.rank - 2
    window = tuple(tap for tap in taps if isinstance(tap, int))
    if len(window) != count:
        raise Unsupported("windows of a size that varies")
    stride = tuple(node.get("strides") or (1,) * count)
    dilation = tuple(node.get("dilations") or (1,) * count)
    pads = tuple(node.get("pads") or (0,) * (2 * count))
    rule = node.get("auto_pad", "NOTSET")
    if rule == "VALID":
        pads = (0,) * (2 * count)
    if rule in ("SAME_UPPER", "SAME_LOWER"):
        pairs = [
            _same(size, tap, step, gap, upper=rule == "SAME_UPPER")
            for size, tap, step, gap in zip(x.shape[2:], window, stride, dilation, strict=True)
        ]
        pads = (*(low for low, _ in pairs), *(high for _, high in pairs))
    return Lie(window, stride, pads[:count], pads[count:], dilation)


def _same(size: DimLike, tap: int, step: int, gap: int, *, upper: bool) -> tuple[int, int]:
    reach = gap * (tap - 1) + 1
    if isinstance(size, int):
        total = max((math.ceil(size / step) - 1) * step + reach - size, 0)
    elif step == 1:
        total = reach - 1
    else:
        raise Unsupported("padding by a rule along a size that varies")
    small = total // 2
    return (small, total - small) if upper else (total - small, small)


@onnx_op("Conv")
def conv(ctx: Context, node: Node, x: Item, weight: Item, bias: Item | None = None) -> Item:
    lie = _lie(node, x, weight.shape[2:])
    groups = node.get("group", 1)
    if (lie.low, lie.high, lie.stride, lie.dilation) == ((lie.taps[0] - 1,), (0,), (1,), (1,)):
        return ctx.emit(Conv1dCausal, x, weight, bias, groups=groups)
    return ctx.emit(ops.Conv, x, weight, bias, lie.stride, lie.low, lie.high, lie.dilation, groups)


@onnx_op("ConvTranspose")
def conv_transpose(
    ctx: Context, node: Node, x: Item, weight: Item, bias: Item | None = None
) -> Item:
    count = x.rank - 2
    stride = tuple(node.get("strides") or (1,) * count)
    dilation = tuple(node.get("dilations") or (1,) * count)
    more = tuple(node.get("output_padding") or (0,) * count)
    pads = tuple(node.get("pads") or (0,) * (2 * count))
    low, high = pads[:count], tuple(a - b for a, b in zip(pads[count:], more, strict=True))
    rule, wanted = node.get("auto_pad", "NOTSET"), node.get("output_shape")
    if rule in ("SAME_UPPER", "SAME_LOWER") or wanted is not None:
        sizes = x.shape[2:]
        wanted = wanted or tuple(n * step for n, step in zip(sizes, stride, strict=True))
        pairs = []
        for axis in range(count):
            tap = weight.shape[2 + axis]
            full = (sizes[axis] - 1) * stride[axis] + dilation[axis] * (tap - 1) + 1
            total = full + more[axis] - wanted[axis]
            if not isinstance(total, int):
                raise Unsupported("a result of a fixed size from one that varies")
            # What is cut off on the smaller side; a negative number adds zeros at the end.
            half = max(total, 0) // 2
            before = half if rule != "SAME_LOWER" else max(total, 0) - half
            pairs.append((before, total - before - more[axis]))
        low, high = (tuple(part) for part in zip(*pairs, strict=True))
    return ctx.emit(
        ops.ConvTranspose, x, weight, bias, stride, low, high, dilation, node.get("group", 1)
    )


@onnx_op("MaxPool")
def max_pool(ctx: Context, node: Node, x: Item) -> tuple[Item, ...]:
    lie = _lie(node, x, node.get("kernel_shape"))
    ceil = bool(node.get("ceil_mode", 0))
    values, places = ctx.emit_all(
        ops.MaxPool, x, lie.taps, lie.stride, lie.low, lie.high, lie.dilation, ceil
    )
    if len(node.outputs) < 2 or not node.outputs[1]:
        return (values,)
    dims = x.shape[2:]
    if node.get("storage_order", 0):
        places = _column_major(ctx, places, dims)
    # ONNX counts places through the whole tensor, hetc inside of one channel.
    batch, channels = x.shape[:2]
    planes = reshaped(ctx, ctx.emit(Iota, batch * channels), (batch, channels, *(1 for _ in dims)))
    offset = ctx.emit(ew.Mul, planes, product(dims))
    return values, ctx.emit(ew.Add, places, offset)


def _column_major(ctx: Context, places: Item, dims: Shape) -> Item:
    """Row-major places as they count with the first axis running fastest."""
    total: Item | None = None
    for axis in range(len(dims)):
        inner, outer = product(dims[axis + 1 :]), product(dims[:axis])
        at = ctx.emit(ew.Mod, ctx.emit(ew.FloorDiv, places, inner), dims[axis])
        part = ctx.emit(ew.Mul, at, outer)
        total = part if total is None else ctx.emit(ew.Add, total, part)
    assert total is not None, "a pool slides along some axis"
    return total


@onnx_op("AveragePool")
def average_pool(ctx: Context, node: Node, x: Item) -> Item:
    lie = _lie(node, x, node.get("kernel_shape"))
    return ctx.emit(
        ops.AvgPool,
        x,
        lie.taps,
        lie.stride,
        lie.low,
        lie.high,
        lie.dilation,
        bool(node.get("ceil_mode", 0)),
        bool(node.get("count_include_pad", 0)),
    )


@onnx_op("LpPool")
def lp_pool(ctx: Context, node: Node, x: Item) -> Item:
    lie = _lie(node, x, node.get("kernel_shape"))
    p, ceil = node.get("p", 2), bool(node.get("ceil_mode", 0))
    powers = ctx.emit(ew.Pow, ctx.emit(ew.Abs, x), p)
    total = ctx.emit(
        ops.AvgPool,
        powers,
        lie.taps,
        lie.stride,
        lie.low,
        lie.high,
        lie.dilation,
        ceil,
        divisor=1,
    )
    return ctx.emit(ew.Pow, total, 1 / p)


@onnx_op("GlobalAveragePool", "GlobalMaxPool")
def global_pool(ctx: Context, node: Node, x: Item) -> Item:
    kind = Mean if node.kind == "GlobalAveragePool" else ReduceMax
    return ctx.emit(kind, x, tuple(range(2, x.rank)), True)


@onnx_op("GlobalLpPool")
def global_lp_pool(ctx: Context, node: Node, x: Item) -> Item:
    p = node.get("p", 2)
    powers = ctx.emit(ew.Pow, ctx.emit(ew.Abs, x), p)
    return ctx.emit(ew.Pow, ctx.emit(Sum, powers, tuple(range(2, x.rank)), True), 1 / p)


@onnx_op("LRN")
def lrn(ctx: Context, node: Node, x: Item) -> Item:
    """x / (bias + alpha / size * sum of squares over neighbouring channels) ** beta."""
    size = node.get("size")
    batch, channels, *dims = x.shape
    squares = reshaped(ctx, ctx.emit(ew.Mul, x, x), (batch, 1, channels, product(dims)))
    before = (size - 1) // 2
    mean = ctx.emit(
        ops.AvgPool, squares, (size, 1), (), (before, 0), (size - 1 - before, 0), divisor=size
    )
    scaled = ctx.emit(ew.Mul, reshaped(ctx, mean, x.shape), node.get("alpha", 1e-4))
    base = ctx.emit(ew.Add, scaled, node.get("bias", 1.0))
    return ctx.emit(ew.Div, x, ctx.emit(ew.Pow, base, node.get("beta", 0.75)))


@onnx_op("Col2Im")
def col2im(ctx: Context, node: Node, x: Item, image: Item, block: Item) -> Item:
    """Each column adds its elements back to where a window took them: a transposed convolution
    whose filters have one 1 each.
    """
    sizes, taps = elements(image), elements(block)
    if sizes is None or taps is None or not isinstance(x.shape[1], int):
        raise Unsupported("an image or blocks of a size that varies")
    count = len(taps)
    stride = tuple(node.get("strides") or (1,) * count)
    dilation = tuple(node.get("dilations") or (1,) * count)
    pads = tuple(node.get("pads") or (0,) * (2 * count))
    reaches = [gap * (tap - 1) + 1 for gap, tap in zip(dilation, taps, strict=True)]
    windows = tuple(
        (size + pads[i] + pads[i + count] - reaches[i]) // stride[i] + 1
        for i, size in enumerate(sizes)
    )
    # What no window reaches at the end stays zero.
    high = tuple(
        (windows[i] - 1) * stride[i] + reaches[i] - pads[i] - size for i, size in enumerate(sizes)
    )
    places = math.prod(taps)
    require_small(x.shape[1], places)
    filters = np.tile(np.eye(places), (x.shape[1] // places, 1)).reshape(x.shape[1], 1, *taps)
    weight = literal(ctx, f"{node.outputs[0]}_places", filters.astype(x.dtype.numpy), x.dtype)
    columns = reshaped(ctx, x, (*x.shape[:2], *windows))
    groups = x.shape[1] // places
    return ctx.emit(
        ops.ConvTranspose, columns, weight, None, stride, pads[:count], high, dilation, groups
    )


@onnx_op("MaxUnpool")
def max_unpool(ctx: Context, node: Node, x: Item, places: Item, wanted: Item | None = None) -> Item:
    count = x.rank - 2
    taps, stride = node.get("kernel_shape"), tuple(node.get("strides") or (1,) * count)
    pads = tuple(node.get("pads") or (0,) * (2 * count))
    dims = tuple(
        (size - 1) * stride[i] + taps[i] - pads[i] - pads[i + count]
        for i, size in enumerate(x.shape[2:])
    )
    shape = (*x.shape[:2], *dims)
    flat = ctx.emit(Full, 0, (product(shape),), x.dtype)
    ids, values = (reshaped(ctx, item, (item.type.size,)) for item in (places, x))
    made = reshaped(ctx, ctx.emit(PutAlong, flat, ids, values, 0), shape)
    target = elements(wanted, ()) if wanted is not None else ()
    if target is None:
        raise Unsupported("an output shape that depends on data")
    if not target or tuple(target) == shape:
        return made
    high = tuple(new - old for new, old in zip(target, shape, strict=True))
    return ctx.emit(Pad, made, (0,) * x.rank, high, 0)
