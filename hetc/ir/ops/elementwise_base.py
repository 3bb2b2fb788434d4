"""What elementwise ops share: NumPy's broadcasting; results and literals have the operands' dtype.

Comparisons give bools. Nothing promotes: frontends write casts.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from hetc.ir.dims import DimLike
from hetc.ir.op import Cost, Op, Scalar, Value
from hetc.ir.types import BF16, F8E4M3, F8E5M2, F16, Array, DType, Shape, TensorType


def broadcast_shapes(*shapes: Shape) -> Shape | None:
    """NumPy's broadcast of symbolic shapes, or None where two dims are neither equal nor 1."""
    first = shapes[0] if shapes else ()
    if all(shape == first for shape in shapes):
        return first
    rank = max(map(len, shapes))
    result: list[DimLike] = []
    for axis in range(-rank, 0):
        dims = {shape[axis] for shape in shapes if len(shape) >= -axis} - {1}
        if len(dims) > 1:
            return None
        result.append(next(iter(dims), 1))
    return tuple(result)


_NARROW_FLOATS = frozenset(dtype.numpy for dtype in (BF16, F16, F8E4M3, F8E5M2))


def as_f32(x: Array) -> Array:
    """Floats narrower than f32 widened to it, so that arithmetic accumulates as hardware does."""
    return x.astype(np.float32) if x.dtype in _NARROW_FLOATS else x


class Elementwise(Op):
    """One result element per element of the broadcast operands."""

    flops_per_element: ClassVar[int] = 1

    def broadcast(self) -> Shape:
        shape = broadcast_shapes(*[value.shape for value in self.operands])
        if shape is None:
            raise self.misfit("operands do not broadcast")
        return shape

    def cost(self) -> Cost:
        base = super().cost()
        return Cost(self.flops_per_element * self.result.size, base.bytes_read, base.bytes_written)


class Unary(Elementwise):
    """A function of each element; `takes` are the kinds of dtype that it is defined on."""

    x: Value
    takes: ClassVar[frozenset[str]] = frozenset({"float", "int", "complex"})

    def infer(self) -> TensorType:
        if self.x.dtype.kind not in self.takes:
            raise self.misfit(f"it takes {' or '.join(sorted(self.takes))} elements")
        return self.x.type

    def semantics(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(self.compute(as_f32(x)), dtype=x.dtype)

    def compute(self, x: Array) -> object:
        raise NotImplementedError(self.kind)


class FloatUnary(Unary):
    takes = frozenset({"float", "complex"})


class Binary(Elementwise):
    """A function of two elements: tensors of one dtype, or one tensor and a literal."""

    x: Scalar
    y: Scalar
    result_dtype: ClassVar[DType | None] = None

    def infer(self) -> TensorType:
        if not self.operands:
            raise self.misfit("one operand must be a tensor")
        dtype = self.operands[0].dtype
        if len(self.operands) == 2:
            if self.operands[1].dtype is not dtype:
                raise self.misfit("operands must have one dtype")
        else:
            literal = self.y if isinstance(self.x, Value) else self.x
            self.require(fits(literal, dtype), f"{literal} is no {dtype}: cast the tensor first")
        return TensorType(self.result_dtype or dtype, self.broadcast())

    def semantics(self, *tensors: Array) -> Array:
        given = iter(tensors)
        dtype = tensors[0].dtype
        x, y = (
            as_f32(next(given)) if isinstance(item, Value) else literal_array(item, dtype)
            for item in (self.x, self.y)
        )
        with np.errstate(all="ignore"):
            result = self.compute(x, y)
        return np.asarray(result, dtype=self.result_dtype.numpy if self.result_dtype else dtype)

    def compute(self, x: Any, y: Any) -> object:
        raise NotImplementedError(self.kind)


def fits(literal: object, dtype: DType) -> bool:
    """Whether `dtype` has a number for `literal`: a fraction is no integer."""
    whole = not isinstance(literal, float) or (math.isfinite(literal) and literal.is_integer())
    return whole or dtype.is_float or dtype.kind == "complex"


def literal_array(item: Any, dtype: np.dtype[Any]) -> Array:
    """A literal in a tensor's dtype, widened where the arithmetic is.

    A number beyond its range becomes infinity, but for one that only rounding put there, such as
    -3.4028235e38.
    """
    wide = np.dtype(np.float32) if dtype in _NARROW_FLOATS else dtype
    if wide.kind == "f" and isinstance(item, float) and math.isfinite(item):
        limit = float(np.finfo(wide).max)
        if abs(item) > limit:
            item = math.copysign(limit if abs(item) <= limit * (1 + 1e-6) else math.inf, item)
    return np.asarray(item, dtype=wide)
