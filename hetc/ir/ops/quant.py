"""Groupwise integer quantization along the last axis."""

from __future__ import annotations

import numpy as np

from hetc.ir.op import Op, Value, op
from hetc.ir.ops.elementwise_base import as_f32
from hetc.ir.types import F32, I8, Array, DType, TensorType


def require_groups(op: Op, x: Value, numbers: Value, group: int) -> None:
    """Raise IRError (HETC-X010) naming `op` unless `numbers` has one number per group of `x`."""
    op.require(x.rank == numbers.rank > 0, "x and its scales must have one rank")
    op.require(x.shape[-1] == numbers.shape[-1] * group, "there must be one scale per group")
    op.require(x.shape[:-1] == numbers.shape[:-1], "x and its scales differ in the leading axes")


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
    """`(x - zero) * scale` in `dtype`.

    `x [..., K]`, `scale` and `zero [..., K/group]`: one number for `group` elements.
    """

    x: Value
    scale: Value
    zero: Value | None = None
    group: int = 1
    dtype: DType = F32

    def infer(self) -> TensorType:
        require_groups(self, self.x, self.scale, self.group)
        if self.zero is not None:
            require_groups(self, self.x, self.zero, self.group)
        return self.x.type.with_dtype(self.dtype)

    def semantics(self, x: Array, scale: Array, zero: Array | None = None) -> Array:
        wide: Array = x.astype(np.float32)
        if zero is not None:
            wide = wide - np.repeat(zero.astype(np.float32), self.group, axis=-1)
        scaled: Array = wide * np.repeat(as_f32(scale), self.group, axis=-1)
        return scaled.astype(self.dtype.numpy)
