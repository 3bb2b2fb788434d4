"""Ops without tensor operands: weights, constants, index ranges, sizes, random numbers."""

from __future__ import annotations

import numpy as np

from hetc.ir.dims import Dim, DimLike, evaluate
from hetc.ir.op import Cost, Op, op
from hetc.ir.ops.elementwise_base import literal_array
from hetc.ir.ops.shape import numbers
from hetc.ir.types import F32, I64, Array, DType, Shape, TensorType


class Source(Op):
    def cost(self) -> Cost:
        return Cost()


@op("weight")
class Weight(Source):
    """A named tensor of the model; its data stays outside. Who reads it pays for its bytes."""

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
        shape = _nested_shape(self.data)
        if shape is None:
            raise self.misfit("the rows of the data differ in length")
        return TensorType(self.dtype, shape)

    def semantics(self) -> Array:
        with np.errstate(over="ignore"):
            return np.array(self.data, dtype=self.dtype.numpy)


def _nested_shape(data: object) -> tuple[int, ...] | None:
    if not isinstance(data, tuple):
        return ()
    inner = {_nested_shape(part) for part in data} or {()}
    first = inner.pop()
    return None if inner or first is None else (len(data), *first)


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
        counts = np.arange(evaluate(self.size, {})) * self.step + evaluate(self.start, {})
        return counts.astype(self.dtype.numpy)


@op("full")
class Full(Source):
    """`value` everywhere."""

    value: float | int | bool | Dim
    shape: Shape
    dtype: DType = F32

    def infer(self) -> TensorType:
        return TensorType(self.dtype, self.shape)

    def semantics(self) -> Array:
        value = literal_array(self.value, self.dtype.numpy).astype(self.dtype.numpy)
        return np.full(numbers(self.shape), value)


@op("random")
class Random(Source):
    """Random numbers that `seed` alone decides: uniform in [0, 1), or of the standard normal
    distribution.

    They come from Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as
    1, 2, 3") as NumPy has it.
    """

    shape: Shape
    seed: int = 0
    normal: bool = False
    dtype: DType = F32

    def infer(self) -> TensorType:
        self.require(self.dtype.is_float, "random numbers are floats")
        self.require(self.seed >= 0, "a seed is not negative")
        return TensorType(self.dtype, self.shape)

    def semantics(self) -> Array:
        draws = np.random.Generator(np.random.Philox(self.seed))
        if self.normal:
            return draws.standard_normal(numbers(self.shape)).astype(self.dtype.numpy)
        # As many bits as the type has for numbers below 1, so that none rounds up to it.
        steps = 2 / float(np.spacing(np.ones((), self.dtype.numpy)))
        uniform: Array = np.floor(draws.random(numbers(self.shape)) * steps) / steps
        return uniform.astype(self.dtype.numpy)
