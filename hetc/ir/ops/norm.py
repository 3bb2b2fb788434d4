"""Normalisations over the last axis, computed in f32."""

from __future__ import annotations

import numpy as np

from hetc.ir.op import Cost, Op, Value, op
from hetc.ir.ops.elementwise_base import as_f32
from hetc.ir.types import Array, TensorType


class Norm(Op):
    """Base of the normalisations: about eight flops an element."""

    x: Value

    def cost(self) -> Cost:
        base = super().cost()
        return Cost(8 * self.x.size, base.bytes_read, base.bytes_written)


@op("rms_norm")
class RMSNorm(Norm):
    """`x / rms(x) * (weight + offset)` over the last axis (Zhang and Sennrich 2019, eq. 4).

    `offset` is 1 in Gemma.
    """

    x: Value
    weight: Value | None = None
    eps: float = 1e-6
    offset: float = 0.0

    def infer(self) -> TensorType:
        if self.weight is not None:
            self.require(
                self.weight.shape == self.x.shape[-1:], "the weight must match the last axis of x"
            )
        return self.x.type

    def semantics(self, x: Array, weight: Array | None = None) -> Array:
        wide = as_f32(x)
        scaled: Array = wide / np.sqrt(
            np.mean(np.square(wide), axis=-1, keepdims=True) + wide.dtype.type(self.eps)
        )
        if weight is not None:
            scaled = scaled * (as_f32(weight) + wide.dtype.type(self.offset))
        return scaled.astype(x.dtype)


@op("layer_norm")
class LayerNorm(Norm):
    """`(x - mean) / std * weight + bias` over the last axis (Ba et al. 2016)."""

    x: Value
    weight: Value | None = None
    bias: Value | None = None
    eps: float = 1e-5

    def infer(self) -> TensorType:
        for scale in (self.weight, self.bias):
            if scale is not None:
                self.require(
                    scale.shape == self.x.shape[-1:],
                    "scale and shift must match the last axis of x",
                )
        return self.x.type

    def semantics(self, x: Array, *scale: Array) -> Array:
        wide = as_f32(x)
        centred = wide - np.mean(wide, axis=-1, keepdims=True)
        result: Array = centred / np.sqrt(
            np.mean(np.square(centred), axis=-1, keepdims=True) + wide.dtype.type(self.eps)
        )
        rest = [as_f32(part) for part in scale]
        if self.weight is not None:
            result = result * rest.pop(0)
        if self.bias is not None:
            result = result + rest.pop(0)
        return result.astype(x.dtype)
