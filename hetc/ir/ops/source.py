"""Ops without tensor operands: weights, constants, index ranges, sizes."""

from __future__ import annotations

import numpy as np

from hetc.ir.dims import Dim, DimLike
from hetc.ir.op import Cost, Op, op
from hetc.ir.types import F32, I64, Array, DType, Shape, TensorType


class Source(Op):
    def cost(self) -> Cost:
        return Cost()


@op("weight")
class Weight(Source):
    """A named tensor of the model; its data stays outside the graph. The reader of it pays for its bytes."""

    name: str
    type: TensorType

    def infer(self) -> TensorType:
        return self.type


@op("constant")
class Constant(Source):
    """A small literal tensor: nested tuples of numbers. Larger ones are weights."""

    data: tuple[object, ...] | float | int | bool
    dtype: DType = F32

    def infer(self) -> TensorType:
        return TensorType(self.dtype, np.shape(self.data))

    def semantics(self) -> Array:
        return np.array(self.data, dtype=self.dtype.numpy)


@op("iota")
class Iota(Source):
    """start, start+step, ... : `size` numbers. `iota(S)` are the positions of a sequence."""

    size: DimLike
    start: DimLike = 0
    step: int = 1
    dtype: DType = I64

    def infer(self) -> TensorType:
        return TensorType(self.dtype, (self.size,))

    def semantics(self) -> Array:
        assert isinstance(self.size, int)
        return (np.arange(self.size) * self.step + self.start).astype(self.dtype.numpy)


@op("full")
class Full(Source):
    """`value` everywhere."""

    value: float | int | bool | Dim
    shape: Shape
    dtype: DType = F32

    def infer(self) -> TensorType:
        return TensorType(self.dtype, self.shape)

    def semantics(self) -> Array:
        return np.full(self.shape, self.value, dtype=self.dtype.numpy)  # type: ignore[arg-type]
