"""Functions of two elements, comparisons, and the choice between two tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from hetc.ir.op import Scalar, Value, op
from hetc.ir.ops.elementwise_base import Binary, Elementwise, literal_array
from hetc.ir.types import BOOL, F32, Array, DType, TensorType


@op("add")
class Add(Binary):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> object:
        return np.add(x, y)


@op("sub")
class Sub(Binary):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> object:
        return np.subtract(x, y)


@op("mul")
class Mul(Binary):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> object:
        return np.multiply(x, y)


@op("div")
class Div(Binary):
    """True division of floats; division of integers that truncates toward zero."""

    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> object:
        if x.dtype.kind not in "iu":
            return np.divide(x, y)
        quotient = np.floor_divide(x, y)
        inexact = quotient * y != x
        return quotient + (inexact & ((x < 0) != (y < 0)))


@op("floor_div")
class FloorDiv(Binary):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> object:
        return np.floor_divide(x, y)


@op("mod")
class Mod(Binary):
    """The remainder with the sign of the divisor, as in Python."""

    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> object:
        return np.mod(x, y)


@op("fmod")
class FMod(Binary):
    """The remainder with the sign of the dividend, as in C."""

    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> object:
        return np.fmod(x, y)


@op("atan2")
class Atan2(Binary):
    """The angle with the tangent x / y, in the quadrant that the signs of both name (C's atan2)."""

    x: Scalar
    y: Scalar
    flops_per_element = 12

    def infer(self) -> TensorType:
        made = super().infer()
        self.require(made.dtype.is_float, "angles are floats")
        return made

    def compute(self, x: Any, y: Any) -> object:
        return np.arctan2(x, y)


@op("pow")
class Pow(Binary):
    """Of integers a negative power is 0, but for those of 1 and -1."""

    x: Scalar
    y: Scalar
    flops_per_element = 10

    def compute(self, x: Any, y: Any) -> object:
        if x.dtype.kind != "i" or not np.any(y < 0):
            return np.power(x, y)
        unit = np.where(x == 1, 1, np.where(x == -1, 1 - 2 * (y % 2), 0))
        return np.where(y < 0, unit, np.power(x, np.maximum(y, 0)))


@op("maximum")
class Maximum(Binary):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> object:
        return np.maximum(x, y)


@op("minimum")
class Minimum(Binary):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> object:
        return np.minimum(x, y)


@op("and")
class And(Binary):
    """Logical and of bools, bitwise and of integers."""

    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> object:
        return np.bitwise_and(x, y)


@op("or")
class Or(Binary):
    """Logical or of bools, bitwise or of integers."""

    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> object:
        return np.bitwise_or(x, y)


@op("xor")
class Xor(Binary):
    """Logical exclusive or of bools, bitwise of integers."""

    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> object:
        return np.bitwise_xor(x, y)


class Shift(Binary):
    """Of integers; a distance outside the width of the type shifts every bit out."""

    def infer(self) -> TensorType:
        made = super().infer()
        self.require(made.dtype.is_int, "only integers have bits to shift")
        return made


@op("shift_left")
class ShiftLeft(Shift):
    """The bits of `x` moved up by `y`, zeros below; what is shifted out is lost."""

    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> object:
        return np.left_shift(x, y)


@op("shift_right")
class ShiftRight(Shift):
    """The bits of `x` moved down by `y`; the sign fills up from above."""

    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> object:
        return np.right_shift(x, y)


class Comparison(Binary):
    result_dtype = BOOL


@op("eq")
class Eq(Comparison):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> object:
        return np.equal(x, y)


@op("ne")
class Ne(Comparison):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> object:
        return np.not_equal(x, y)


@op("lt")
class Lt(Comparison):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> object:
        return np.less(x, y)


@op("le")
class Le(Comparison):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> object:
        return np.less_equal(x, y)


@op("gt")
class Gt(Comparison):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> object:
        return np.greater(x, y)


@op("ge")
class Ge(Comparison):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> object:
        return np.greater_equal(x, y)


@op("where")
class Where(Elementwise):
    """`x` where `condition` holds, else `y`. Two literals take `dtype`."""

    condition: Value
    x: Scalar
    y: Scalar
    dtype: DType | None = None

    def infer(self) -> TensorType:
        self.require(self.condition.dtype is BOOL, "the condition must be bool")
        dtypes = {value.dtype for value in self.operands[1:]} or {self.dtype or F32}
        self.require(len(dtypes) == 1, "both branches must have one dtype")
        return TensorType(dtypes.pop(), self.broadcast())

    def semantics(self, condition: Array, *tensors: Array) -> Array:
        given = iter(tensors)
        dtype = self.result.dtype.numpy
        x, y = (
            next(given) if isinstance(item, Value) else literal_array(item, dtype).astype(dtype)
            for item in (self.x, self.y)
        )
        return np.where(condition, x, y)
