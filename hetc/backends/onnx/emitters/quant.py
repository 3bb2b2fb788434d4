"""Groupwise quantization along the last axis."""

from __future__ import annotations

import numpy as np

from hetc.backends.onnx.elements import computed
from hetc.backends.onnx.table import Context, emits
from hetc.ir.op import Value
from hetc.ir.ops.quant import Dequantize, Quantize, Unpack4
from hetc.ir.types import F32, I8, I16, I32, U8, Shape


def _grouped(value: Value, group: int) -> Shape:
    """The shape in which the last axis shows its groups."""
    return (*value.shape[:-1], value.shape[-1] // group, group)


def _per_group(c: Context, value: Value) -> str:
    """One number a group, in f32, with an axis of its own for the elements of the group."""
    return c.w.node("Unsqueeze", _in_f32(c, value), c.w.ints([-1]))


def _no_quantize(op: Quantize) -> str | None:
    return None if op.dtype in (I8, U8, I16) else f"{op.dtype} results"


@emits(Quantize, refuse=_no_quantize)
def quantize(c: Context, op: Quantize) -> str:
    shape = _grouped(op.x, op.group)
    x = c.sizes.reshape(_in_f32(c, op.x), op.x.shape, shape)
    steps = c.w.node("Round", c.w.node("Div", x, _per_group(c, op.scale)))
    limits = np.iinfo(op.dtype.numpy)
    bounds = (c.w.constant(limits.min, F32), c.w.constant(limits.max, F32))
    whole = c.w.cast(c.w.node("Clip", steps, *bounds), op.dtype)
    return c.sizes.reshape(whole, shape, op.x.shape)


@emits(Dequantize)
def dequantize(c: Context, op: Dequantize) -> str:
    shape = _grouped(op.x, op.group)
    x = c.sizes.reshape(_in_f32(c, op.x), op.x.shape, shape)
    if op.zero is not None:
        x = c.w.node("Sub", x, _per_group(c, op.zero))
    x = c.w.node("Mul", x, _per_group(c, op.scale))
    if op.shift is not None:
        x = c.w.node("Add", x, _per_group(c, op.shift))
    scaled = c.sizes.reshape(x, shape, op.x.shape)
    return scaled if computed(op.dtype) is F32 else c.w.cast(scaled, op.dtype)


@emits(Unpack4)
def unpack4(c: Context, op: Unpack4) -> str:
    low = c.w.node("BitwiseAnd", c.w[op.x], c.w.constant(15, U8))
    high = c.w.node("BitShift", c.w[op.x], c.w.constant(4, U8), direction="RIGHT")
    both = [c.w.node("Unsqueeze", half, c.w.ints([-1])) for half in (low, high)]
    halves = c.sizes.reshape(c.w.node("Concat", *both, axis=-1), (*op.x.shape, 2), op.result.shape)
    if op.dtype is U8:
        return halves
    # Signed: 0 to 15 with the upper bit turned, less 8. Narrow integers have no subtraction.
    turned = c.w.cast(c.w.node("BitwiseXor", halves, c.w.constant(8, U8)), I32)
    return c.w.cast(c.w.node("Sub", turned, c.w.constant(8, I32)), I8)


def _in_f32(c: Context, value: Value) -> str:
    return c.w[value] if computed(value.dtype) is F32 else c.w.cast(c.w[value], F32)
