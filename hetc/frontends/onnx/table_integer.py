"""Operators of quantized models: steps of a scale around a zero, and products of integers.

All of them are written out: integers less their zeros, products in i32, factors in f32.
"""

from __future__ import annotations

import numpy as np

from hetc.frontends.onnx.context import Context, Unsupported, onnx_op
from hetc.frontends.onnx.item import Item
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.table_elementwise import converted, narrowed_float
from hetc.frontends.onnx.table_nn import spread_over
from hetc.frontends.onnx.table_shape import reshaped
from hetc.frontends.onnx.table_window import conv
from hetc.frontends.onnx.tensors import dtype_named
from hetc.ir.ops import elementwise as ew
from hetc.ir.ops.linear import MatMul
from hetc.ir.ops.reduce import ReduceMax, ReduceMin
from hetc.ir.ops.shape import normalize_axis
from hetc.ir.types import F32, I32, U8, DType


@onnx_op("QuantizeLinear", "com.microsoft::QuantizeLinear")
def quantize_linear(
    ctx: Context, node: Node, x: Item, scale: Item, zero: Item | None = None
) -> Item:
    given = node.get("output_dtype", 0)
    if zero is not None and zero.narrow:
        raise Unsupported("steps of 2 or 4 bits")
    dtype = zero.dtype if zero is not None else dtype_named(given, node.title) if given else U8
    axis = normalize_axis(node.get("axis", 1), x.rank)
    block = node.get("block_size", 0)
    factor = spread_over(ctx, scale, x, axis, block)
    wide = x if x.dtype is factor.dtype else converted(ctx, x, factor.dtype)
    steps = ctx.binary(ew.Div, wide, factor)
    shift = None if zero is None else spread_over(ctx, zero, x, axis, block)
    return _stepped(ctx, steps, shift, dtype, saturate=bool(node.get("saturate", 1)))


def _stepped(
    ctx: Context, steps: Item, zero: Item | None, dtype: DType, *, saturate: bool = True
) -> Item:
    """`steps` rounded to even and counted from `zero`, in a dtype that saturates."""
    if dtype.is_float:
        return narrowed_float(ctx, steps, dtype, saturate=saturate)
    whole = ctx.emit(ew.Round, converted(ctx, steps, F32))
    if zero is not None:
        whole = ctx.binary(ew.Add, whole, converted(ctx, zero, F32))
    limits = np.iinfo(dtype.numpy)
    low = ctx.emit(ew.Maximum, whole, float(limits.min))
    return ctx.emit(ew.Cast, ctx.emit(ew.Minimum, low, float(limits.max)), dtype)


def _centred(ctx: Context, x: Item, zero: Item | None) -> Item:
    """Integers less their zero, as i32."""
    wide = converted(ctx, x, I32)
    return wide if zero is None else ctx.binary(ew.Sub, wide, converted(ctx, zero, I32))


def _rows(ctx: Context, item: Item | None, rank: int) -> Item | None:
    """A number for each row, as a column beside the matrix."""
    if item is None or item.rank != 1 or item.shape == (1,) or rank < 2:
        return item
    return reshaped(ctx, item, (item.shape[0], 1))


def _product(ctx: Context, a: Item, b: Item, a_zero: Item | None, b_zero: Item | None) -> Item:
    left = _centred(ctx, a, _rows(ctx, a_zero, a.rank))
    right = _centred(ctx, b, b_zero)
    if left.rank >= 2 and right.rank >= 2:
        return ctx.emit(MatMul, left, right)
    rows = left if left.rank >= 2 else reshaped(ctx, left, (1, *left.shape))
    columns = right if right.rank >= 2 else reshaped(ctx, right, (*right.shape, 1))
    made = ctx.emit(MatMul, rows, columns)
    shape = [*made.shape[:-2]]
    shape += [made.shape[-2]] if left.rank >= 2 else []
    shape += [made.shape[-1]] if right.rank >= 2 else []
    return reshaped(ctx, made, tuple(shape))


@onnx_op("MatMulInteger")
def matmul_integer(
    ctx: Context,
    node: Node,
    a: Item,
    b: Item,
    a_zero: Item | None = None,
    b_zero: Item | None = None,
) -> Item:
    return _product(ctx, a, b, a_zero, b_zero)


@onnx_op("QLinearMatMul")
def qlinear_matmul(
    ctx: Context,
    node: Node,
    a: Item,
    a_scale: Item,
    a_zero: Item,
    b: Item,
    b_scale: Item,
    b_zero: Item,
    y_scale: Item,
    y_zero: Item,
) -> Item:
    wide = ctx.emit(ew.Cast, _product(ctx, a, b, a_zero, b_zero), F32)
    rows = _rows(ctx, a_scale, a.rank)
    assert rows is not None, "a required input"
    factors = [converted(ctx, item, F32) for item in (rows, b_scale, y_scale)]
    wide = ctx.binary(ew.Mul, ctx.binary(ew.Mul, wide, factors[0]), factors[1])
    return _stepped(ctx, ctx.binary(ew.Div, wide, factors[2]), y_zero, y_zero.dtype)


def _channels(ctx: Context, item: Item | None, rank: int) -> Item | None:
    """A number for each output channel, beside the filters `[O, C, *K]`."""
    if item is None or item.rank == 0 or item.shape == (1,):
        return item
    return reshaped(ctx, item, (item.shape[0], *(1,) * (rank - 1)))


@onnx_op("ConvInteger")
def conv_integer(
    ctx: Context,
    node: Node,
    x: Item,
    weight: Item,
    x_zero: Item | None = None,
    w_zero: Item | None = None,
) -> Item:
    filters = _centred(ctx, weight, _channels(ctx, w_zero, weight.rank))
    return conv(ctx, node, _centred(ctx, x, x_zero), filters)


@onnx_op("QLinearConv")
def qlinear_conv(
    ctx: Context,
    node: Node,
    x: Item,
    x_scale: Item,
    x_zero: Item,
    weight: Item,
    w_scale: Item,
    w_zero: Item,
    y_scale: Item,
    y_zero: Item,
    bias: Item | None = None,
) -> Item:
    made = conv_integer(ctx, node, x, weight, x_zero, w_zero)
    if bias is not None:
        made = ctx.emit(ew.Add, made, reshaped(ctx, bias, (bias.shape[0], *(1,) * (x.rank - 2))))
    wide = ctx.emit(ew.Cast, made, F32)
    per_channel = _channels(ctx, w_scale, x.rank - 1)
    assert per_channel is not None, "a required input"
    wide = ctx.binary(ew.Mul, ctx.binary(ew.Mul, wide, x_scale), per_channel)
    return _stepped(ctx, ctx.binary(ew.Div, wide, y_scale), y_zero, y_zero.dtype)


@onnx_op("com.microsoft::MatMulIntegerToFloat")
def matmul_integer_to_float(
    ctx: Context,
    node: Node,
    a: Item,
    b: Item,
    a_scale: Item,
    b_scale: Item,
    a_zero: Item | None = None,
    b_zero: Item | None = None,
    bias: Item | None = None,
) -> Item:
    wide = ctx.emit(ew.Cast, _product(ctx, a, b, a_zero, b_zero), a_scale.dtype)
    wide = ctx.binary(ew.Mul, wide, ctx.binary(ew.Mul, a_scale, b_scale))
    return wide if bias is None else ctx.binary(ew.Add, wide, bias)


@onnx_op("com.microsoft::DynamicQuantizeMatMul")
def dynamic_quantize_matmul(
    ctx: Context,
    node: Node,
    a: Item,
    b: Item,
    b_scale: Item,
    b_zero: Item | None = None,
    bias: Item | None = None,
) -> Item:
    """`a` is quantized to u8 by its own range, which has 0 in it (see DynamicQuantizeLinear)."""
    axes = tuple(range(a.rank))
    top = ctx.emit(ew.Maximum, ctx.emit(ReduceMax, a, axes), 0.0)
    bottom = ctx.emit(ew.Minimum, ctx.emit(ReduceMin, a, axes), 0.0)
    scale = ctx.emit(ew.Div, ctx.emit(ew.Sub, top, bottom), 255.0)
    # A tensor of zeros has no step; any will do.
    scale = ctx.emit(ew.Where, ctx.emit(ew.Eq, scale, 0.0), 1.0, scale)
    zero = _stepped(ctx, ctx.emit(ew.Neg, ctx.emit(ew.Div, bottom, scale)), None, U8)
    codes = _stepped(ctx, ctx.emit(ew.Div, a, scale), zero, U8)
    return matmul_integer_to_float(ctx, node, codes, b, scale, b_scale, zero, b_zero, bias)
