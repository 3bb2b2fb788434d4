"""Groupwise integer quantization along the last axis."""

from __future__ import annotations

import numpy as np

from hetc.ir.op import Op, Value, op
from hetc.ir.ops.elementwise import as_f32
from hetc.ir.types import F32, I8, Array, DType, TensorType


@op("quantize")
class Quantize(Op):
    """`round(x / scale)` in `dtype`, saturating; `scale [..., K/group]` holds one number per `group` elements."""

    x: Value
    scale: Value
    group: int
    dtype: DType = I8

    def infer(self) -> TensorType:
        self.require(self.x.shape[-1] == self.scale.shape[-1] * self.group, "one scale per group")
        return self.x.type.with_dtype(self.dtype)

    def semantics(self, x: Array, scale: Array) -> Array:
        limits = np.iinfo(self.dtype.numpy)
        steps = np.rint(as_f32(x) / np.repeat(as_f32(scale), self.group, axis=-1))
        return np.clip(steps, limits.min, limits.max).astype(self.dtype.numpy)


@op("dequantize")
class Dequantize(Op):
    """`(x - zero) * scale` in `dtype`; `scale` and `zero` hold one number per `group` elements of the last axis."""

    x: Value
    scale: Value
    zero: Value | None = None
    group: int = 1
    dtype: DType = F32

    def infer(self) -> TensorType:
        self.require(self.x.shape[-1] == self.scale.shape[-1] * self.group, "one scale per group")
        return self.x.type.with_dtype(self.dtype)

    def semantics(self, x: Array, scale: Array, zero: Array | None = None) -> Array:
        wide = x.astype(np.float32)
        if zero is not None:
            wide = wide - np.repeat(zero.astype(np.float32), self.group, axis=-1)
        return (wide * np.repeat(as_f32(scale), self.group, axis=-1)).astype(self.dtype.numpy)
