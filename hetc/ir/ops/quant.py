"""Groupwise integer quantization along the last axis."""

from __future__ import annotations

import numpy as np

from hetc.ir.op import Op, Value, op
from hetc.ir.ops.elementwise_base import as_f32
from hetc.ir.types import F32, I8, U8, Array, DType, TensorType


def require_groups(op: Op, x: Value, numbers: Value, group: int) -> None:
    """Raise IRError (HETC-X010) naming `op` unless `numbers` has one number per group of `x`."""
    op.require(x.rank == numbers.rank > 0, "x and its scales must have one rank")
    op.require(x.shape[-1] == numbers.shape[-1] * group, "there must be one scale per group")
    op.require(x.shape[:-1] == numbers.shape[:-1], "x and its scales differ in the leading axes")


def dequantized(x: Array, scale: Array, zero: Array | None, shift: Array | None) -> Array:
    """`(x - zero) * scale + shift` in f32: `x [..., K]`, the others one for a group of its last
    axis."""
    wide: Array = x.reshape(*scale.shape, -1).astype(np.float32)
    if zero is not None:
        wide -= zero.astype(np.float32)[..., None]
    wide *= as_f32(scale)[..., None]
    if shift is not None:
        wide += as_f32(shift)[..., None]
    return wide.reshape(x.shape)


def unpacked4(x: Array, dtype: DType) -> Array:
    """The numbers of 4 bits in the bytes of `x`, the low half first, as u8 or, signed, i8."""
    halves = np.stack([x & 15, x >> 4], axis=-1).reshape(*x.shape[:-1], -1)
    if dtype is U8:
        return halves
    signed: Array = (halves ^ 8).astype(np.int8) - np.int8(8)
    return signed


@op("quantize")
class Quantize(Op):
    """`round(x / scale)` in `dtype`, saturating.

    `x [..., K]`, `scale [..., K/group]`: one number for `group` elements of the last axis.
    """

    x: Value
    scale: Value
    group: int
    dtype: DType = I8

    def infer(self) -> TensorType:
        self.require(self.dtype.is_int, "quantize makes integers")
        require_groups(self, self.x, self.scale, self.group)
        return self.x.type.with_dtype(self.dtype)

    def semantics(self, x: Array, scale: Array) -> Array:
        limits = np.iinfo(self.dtype.numpy)
        steps = np.rint(as_f32(x) / np.repeat(as_f32(scale), self.group, axis=-1))
        clipped: Array = np.clip(steps, limits.min, limits.max)
        return clipped.astype(self.dtype.numpy)


@op("dequantize")
class Dequantize(Op):
    """`(x - zero) * scale + shift` in `dtype`.

    `x [..., K]`, `scale`, `zero` and `shift [..., K/group]`: one number for `group` elements.
    """

    x: Value
    scale: Value
    zero: Value | None = None
    shift: Value | None = None
    group: int = 1
    dtype: DType = F32

    def infer(self) -> TensorType:
        for numbers in (self.scale, self.zero, self.shift):
            if numbers is not None:
                require_groups(self, self.x, numbers, self.group)
        return self.x.type.with_dtype(self.dtype)

    def semantics(self, x: Array, scale: Array, *extra: Array) -> Array:
        given = iter(extra)
        zero = None if self.zero is None else next(given)
        shift = None if self.shift is None else next(given)
        return dequantized(x, scale, zero, shift).astype(self.dtype.numpy)


@op("unpack4")
class Unpack4(Op):
    """Numbers of 4 bits, two in a byte, the low half first: `x u8[..., K/2]` gives `dtype[..., K]`.

    From 0 to 15 as u8; as i8 from -8 to 7, in two's complement.
    """

    x: Value
    dtype: DType = U8

    def infer(self) -> TensorType:
        self.require(self.x.dtype is U8 and self.x.rank > 0, "x is u8[..., K/2]")
        self.require(self.dtype in (U8, I8), "4 bits become u8 or i8")
        return TensorType(self.dtype, (*self.x.shape[:-1], self.x.shape[-1] * 2))

    def semantics(self, x: Array) -> Array:
        return unpacked4(x, self.dtype)
