"""Elementwise ops: NumPy's broadcasting, result dtype = operand dtype (bool for comparisons), literals adopt it."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from hetc.ir.dims import DimLike
from hetc.ir.op import Cost, Op, Scalar, Value, op
from hetc.ir.types import BF16, BOOL, F16, F32, Array, DType, Shape, TensorType


def broadcast_shapes(*shapes: Shape) -> Shape | None:
    """NumPy's broadcast of symbolic shapes, or None where two dims are neither equal nor 1."""
    rank = max(map(len, shapes), default=0)
    result: list[DimLike] = []
    for axis in range(-rank, 0):
        dims = {shape[axis] for shape in shapes if len(shape) >= -axis} - {1}
        if len(dims) > 1:
            return None
        result.append(next(iter(dims), 1))
    return tuple(result)


def as_f32(x: Array) -> Array:
    """bf16 and f16 widened to f32, so that arithmetic accumulates as hardware does; others unchanged."""
    return x.astype(np.float32) if x.dtype in (BF16.numpy, F16.numpy) else x


class Elementwise(Op):
    """One result element per element of the broadcast operands."""

    flops_per_element: ClassVar[int] = 1

    def broadcast(self) -> Shape:
        shape = broadcast_shapes(*(value.shape for value in self.operands))
        self.require(shape is not None, "operands do not broadcast")
        assert shape is not None
        return shape

    def cost(self) -> Cost:
        base = super().cost()
        return Cost(self.flops_per_element * self.result.size, base.bytes_read, base.bytes_written)


class Unary(Elementwise):
    x: Value

    def infer(self) -> TensorType:
        return self.x.type

    def semantics(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(self.compute(as_f32(x)), dtype=x.dtype)

    def compute(self, x: Array) -> Array:
        raise NotImplementedError(self.kind)


class Binary(Elementwise):
    x: Scalar
    y: Scalar
    result_dtype: ClassVar[DType | None] = None

    def infer(self) -> TensorType:
        dtypes = {value.dtype for value in self.operands}
        self.require(
            len(dtypes) == 1, "operands must be tensors of one dtype, or one tensor and a literal"
        )
        return TensorType(self.result_dtype or dtypes.pop(), self.broadcast())

    def semantics(self, *tensors: Array) -> Array:
        given = iter(tensors)
        dtype = tensors[0].dtype
        x, y = (
            as_f32(next(given)) if isinstance(item, Value) else _literal(item, dtype)
            for item in (self.x, self.y)
        )
        with np.errstate(all="ignore"):
            result = self.compute(x, y)
        return np.asarray(result, dtype=self.result_dtype.numpy if self.result_dtype else dtype)

    def compute(self, x: Any, y: Any) -> Array:
        raise NotImplementedError(self.kind)


def _literal(item: Any, dtype: np.dtype) -> Array:
    # A literal takes the tensor's dtype, widened where the arithmetic is; numbers beyond its range saturate to infinity.
    wide = np.dtype(np.float32) if dtype in (BF16.numpy, F16.numpy) else dtype
    if wide.kind == "f" and isinstance(item, float) and math.isfinite(item):
        limit = float(np.finfo(wide).max)
        item = (
            max(-limit, min(limit, item))
            if abs(item) <= limit * (1 + 1e-6)
            else math.copysign(math.inf, item)
        )
    return np.asarray(item, dtype=wide)


@op("neg")
class Neg(Unary):
    x: Value

    def compute(self, x: Array) -> Array:
        return -x


@op("abs")
class Abs(Unary):
    x: Value

    def compute(self, x: Array) -> Array:
        return np.abs(x)


@op("sign")
class Sign(Unary):
    x: Value

    def compute(self, x: Array) -> Array:
        return np.sign(x)


@op("exp")
class Exp(Unary):
    x: Value
    flops_per_element = 8

    def compute(self, x: Array) -> Array:
        return np.exp(x)


@op("expm1")
class Expm1(Unary):
    x: Value
    flops_per_element = 8

    def compute(self, x: Array) -> Array:
        return np.expm1(x)


@op("log")
class Log(Unary):
    x: Value
    flops_per_element = 8

    def compute(self, x: Array) -> Array:
        return np.log(x)


@op("log1p")
class Log1p(Unary):
    x: Value
    flops_per_element = 8

    def compute(self, x: Array) -> Array:
        return np.log1p(x)


@op("sqrt")
class Sqrt(Unary):
    x: Value
    flops_per_element = 2

    def compute(self, x: Array) -> Array:
        return np.sqrt(x)


@op("rsqrt")
class Rsqrt(Unary):
    """1 / sqrt(x)."""

    x: Value
    flops_per_element = 2

    def compute(self, x: Array) -> Array:
        return 1 / np.sqrt(x)


@op("reciprocal")
class Reciprocal(Unary):
    x: Value

    def compute(self, x: Array) -> Array:
        return 1 / x


@op("sin")
class Sin(Unary):
    x: Value
    flops_per_element = 8

    def compute(self, x: Array) -> Array:
        return np.sin(x)


@op("cos")
class Cos(Unary):
    x: Value
    flops_per_element = 8

    def compute(self, x: Array) -> Array:
        return np.cos(x)


@op("tan")
class Tan(Unary):
    x: Value
    flops_per_element = 8

    def compute(self, x: Array) -> Array:
        return np.tan(x)


@op("tanh")
class Tanh(Unary):
    x: Value
    flops_per_element = 8

    def compute(self, x: Array) -> Array:
        return np.tanh(x)


@op("sigmoid")
class Sigmoid(Unary):
    x: Value
    flops_per_element = 10

    def compute(self, x: Array) -> Array:
        return 1 / (1 + np.exp(-x))


@op("erf")
class Erf(Unary):
    """The error function (Abramowitz and Stegun 7.1.1)."""

    x: Value
    flops_per_element = 12

    def compute(self, x: Array) -> Array:
        return _erf(x)


@op("relu")
class Relu(Unary):
    x: Value

    def compute(self, x: Array) -> Array:
        return np.maximum(x, 0)


@op("silu")
class Silu(Unary):
    """x * sigmoid(x) (Elfwing et al. 2017)."""

    x: Value
    flops_per_element = 11

    def compute(self, x: Array) -> Array:
        return x / (1 + np.exp(-x))


@op("gelu")
class Gelu(Unary):
    """x * Phi(x) (Hendrycks and Gimpel 2016); with `tanh`, its tanh approximation."""

    x: Value
    tanh: bool = False
    flops_per_element = 14

    def compute(self, x: Array) -> Array:
        if self.tanh:
            inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
            return 0.5 * x * (1 + np.tanh(inner))
        return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


@op("softplus")
class Softplus(Unary):
    """log(1 + exp(x))."""

    x: Value
    flops_per_element = 12

    def compute(self, x: Array) -> Array:
        return np.logaddexp(x, np.zeros((), x.dtype))


@op("floor")
class Floor(Unary):
    x: Value

    def compute(self, x: Array) -> Array:
        return np.floor(x)


@op("ceil")
class Ceil(Unary):
    x: Value

    def compute(self, x: Array) -> Array:
        return np.ceil(x)


@op("round")
class Round(Unary):
    """To the nearest integer, halves to even."""

    x: Value

    def compute(self, x: Array) -> Array:
        return np.rint(x)


@op("not")
class Not(Unary):
    """Logical not of bools, bitwise not of integers."""

    x: Value

    def compute(self, x: Array) -> Array:
        return np.invert(x)


@op("is_nan")
class IsNan(Unary):
    x: Value

    def infer(self) -> TensorType:
        return self.x.type.with_dtype(BOOL)

    def semantics(self, x: Array) -> Array:
        return np.isnan(as_f32(x))


@op("is_inf")
class IsInf(Unary):
    x: Value

    def infer(self) -> TensorType:
        return self.x.type.with_dtype(BOOL)

    def semantics(self, x: Array) -> Array:
        return np.isinf(as_f32(x))


@op("cast")
class Cast(Elementwise):
    """To another dtype; floats to integers truncate toward zero, as in C."""

    x: Value
    dtype: DType = F32

    def infer(self) -> TensorType:
        return self.x.type.with_dtype(self.dtype)

    def semantics(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return x.astype(self.dtype.numpy)


@op("add")
class Add(Binary):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> Array:
        return np.add(x, y)


@op("sub")
class Sub(Binary):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> Array:
        return np.subtract(x, y)


@op("mul")
class Mul(Binary):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> Array:
        return np.multiply(x, y)


@op("div")
class Div(Binary):
    """True division of floats; division of integers that truncates toward zero."""

    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> Array:
        if np.asarray(x).dtype.kind in "iu":
            return np.trunc(np.true_divide(x, y)).astype(np.asarray(x).dtype)
        return np.divide(x, y)


@op("floor_div")
class FloorDiv(Binary):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> Array:
        return np.floor_divide(x, y)


@op("mod")
class Mod(Binary):
    """The remainder with the sign of the divisor, as in Python."""

    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> Array:
        return np.mod(x, y)


@op("pow")
class Pow(Binary):
    x: Scalar
    y: Scalar
    flops_per_element = 10

    def compute(self, x: Any, y: Any) -> Array:
        return np.power(x, y)


@op("maximum")
class Maximum(Binary):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> Array:
        return np.maximum(x, y)


@op("minimum")
class Minimum(Binary):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> Array:
        return np.minimum(x, y)


@op("and")
class And(Binary):
    """Logical and of bools, bitwise and of integers."""

    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> Array:
        return np.bitwise_and(x, y)


@op("or")
class Or(Binary):
    """Logical or of bools, bitwise or of integers."""

    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> Array:
        return np.bitwise_or(x, y)


@op("xor")
class Xor(Binary):
    """Logical exclusive or of bools, bitwise of integers."""

    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> Array:
        return np.bitwise_xor(x, y)


class Comparison(Binary):
    result_dtype = BOOL


@op("eq")
class Eq(Comparison):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> Array:
        return np.equal(x, y)


@op("ne")
class Ne(Comparison):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> Array:
        return np.not_equal(x, y)


@op("lt")
class Lt(Comparison):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> Array:
        return np.less(x, y)


@op("le")
class Le(Comparison):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> Array:
        return np.less_equal(x, y)


@op("gt")
class Gt(Comparison):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> Array:
        return np.greater(x, y)


@op("ge")
class Ge(Comparison):
    x: Scalar
    y: Scalar

    def compute(self, x: Any, y: Any) -> Array:
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
            next(given) if isinstance(item, Value) else _literal(item, dtype).astype(dtype)
            for item in (self.x, self.y)
        )
        return np.where(condition, x, y)


def _erf(x: Array) -> Array:
    # Float64 series and continued fraction are needless: math.erf is exact to double and this is an oracle, not a kernel.
    return np.vectorize(math.erf, otypes=[np.float64])(x).astype(x.dtype) if x.size else x
