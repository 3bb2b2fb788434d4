"""Functions of one element, and casts."""

from __future__ import annotations

import math

import numpy as np

from hetc.ir.op import Value, op
from hetc.ir.ops.elementwise_base import Elementwise, FloatUnary, Unary, as_f32
from hetc.ir.types import BOOL, F32, Array, DType, TensorType


@op("neg")
class Neg(Unary):
    x: Value

    def compute(self, x: Array) -> object:
        return -x


@op("abs")
class Abs(Unary):
    x: Value

    def compute(self, x: Array) -> object:
        return np.abs(x)


@op("sign")
class Sign(Unary):
    x: Value

    def compute(self, x: Array) -> object:
        return np.sign(x)


@op("exp")
class Exp(FloatUnary):
    x: Value
    flops_per_element = 8

    def compute(self, x: Array) -> object:
        return np.exp(x)


@op("expm1")
class Expm1(FloatUnary):
    x: Value
    flops_per_element = 8

    def compute(self, x: Array) -> object:
        return np.expm1(x)


@op("log")
class Log(FloatUnary):
    x: Value
    flops_per_element = 8

    def compute(self, x: Array) -> object:
        return np.log(x)


@op("log1p")
class Log1p(FloatUnary):
    x: Value
    flops_per_element = 8

    def compute(self, x: Array) -> object:
        return np.log1p(x)


@op("sqrt")
class Sqrt(FloatUnary):
    x: Value
    flops_per_element = 2

    def compute(self, x: Array) -> object:
        return np.sqrt(x)


@op("rsqrt")
class Rsqrt(FloatUnary):
    """1 / sqrt(x)."""

    x: Value
    flops_per_element = 2

    def compute(self, x: Array) -> object:
        return 1 / np.sqrt(x)


@op("reciprocal")
class Reciprocal(FloatUnary):
    x: Value

    def compute(self, x: Array) -> object:
        return 1 / x


@op("sin")
class Sin(FloatUnary):
    x: Value
    flops_per_element = 8

    def compute(self, x: Array) -> object:
        return np.sin(x)


@op("cos")
class Cos(FloatUnary):
    x: Value
    flops_per_element = 8

    def compute(self, x: Array) -> object:
        return np.cos(x)


@op("tan")
class Tan(FloatUnary):
    x: Value
    flops_per_element = 8

    def compute(self, x: Array) -> object:
        return np.tan(x)


@op("acos")
class Acos(FloatUnary):
    x: Value
    flops_per_element = 10

    def compute(self, x: Array) -> object:
        return np.arccos(x)


@op("acosh")
class Acosh(FloatUnary):
    x: Value
    flops_per_element = 12

    def compute(self, x: Array) -> object:
        return np.arccosh(x)


@op("asin")
class Asin(FloatUnary):
    x: Value
    flops_per_element = 10

    def compute(self, x: Array) -> object:
        return np.arcsin(x)


@op("asinh")
class Asinh(FloatUnary):
    x: Value
    flops_per_element = 12

    def compute(self, x: Array) -> object:
        return np.arcsinh(x)


@op("atan")
class Atan(FloatUnary):
    x: Value
    flops_per_element = 10

    def compute(self, x: Array) -> object:
        return np.arctan(x)


@op("atanh")
class Atanh(FloatUnary):
    x: Value
    flops_per_element = 12

    def compute(self, x: Array) -> object:
        return np.arctanh(x)


@op("cosh")
class Cosh(FloatUnary):
    x: Value
    flops_per_element = 10

    def compute(self, x: Array) -> object:
        return np.cosh(x)


@op("sinh")
class Sinh(FloatUnary):
    x: Value
    flops_per_element = 10

    def compute(self, x: Array) -> object:
        return np.sinh(x)


@op("tanh")
class Tanh(FloatUnary):
    x: Value
    flops_per_element = 8

    def compute(self, x: Array) -> object:
        return np.tanh(x)


@op("sigmoid")
class Sigmoid(FloatUnary):
    x: Value
    flops_per_element = 10

    def compute(self, x: Array) -> object:
        return 1 / (1 + np.exp(-x))


@op("erf")
class Erf(FloatUnary):
    """The error function (Abramowitz and Stegun 7.1.1)."""

    x: Value
    flops_per_element = 12

    def compute(self, x: Array) -> object:
        return _erf(x)


@op("relu")
class Relu(Unary):
    x: Value

    def compute(self, x: Array) -> object:
        return np.maximum(x, 0)


@op("silu")
class Silu(FloatUnary):
    """x * sigmoid(x) (Elfwing et al. 2017)."""

    x: Value
    flops_per_element = 11

    def compute(self, x: Array) -> object:
        return x / (1 + np.exp(-x))


@op("gelu")
class Gelu(FloatUnary):
    """x * Phi(x) (Hendrycks and Gimpel 2016); with `tanh`, its tanh approximation."""

    x: Value
    tanh: bool = False
    flops_per_element = 14

    def compute(self, x: Array) -> object:
        if self.tanh:
            inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
            return 0.5 * x * (1 + np.tanh(inner))
        return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


@op("softplus")
class Softplus(FloatUnary):
    """log(1 + exp(x))."""

    x: Value
    flops_per_element = 12

    def compute(self, x: Array) -> object:
        return np.logaddexp(x, np.zeros((), x.dtype))


@op("floor")
class Floor(Unary):
    x: Value

    def compute(self, x: Array) -> object:
        return np.floor(x)


@op("ceil")
class Ceil(Unary):
    x: Value

    def compute(self, x: Array) -> object:
        return np.ceil(x)


@op("round")
class Round(Unary):
    """To the nearest integer, halves to even."""

    x: Value

    def compute(self, x: Array) -> object:
        return np.rint(x)


@op("trunc")
class Trunc(Unary):
    """To the nearest integer toward zero."""

    x: Value

    def compute(self, x: Array) -> object:
        return np.trunc(x)


@op("not")
class Not(Unary):
    """Logical not of bools, bitwise not of integers."""

    x: Value
    takes = frozenset({"bool", "int"})

    def compute(self, x: Array) -> object:
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


@op("bitcast")
class BitCast(Elementwise):
    """The same bits read as another dtype of as many."""

    x: Value
    dtype: DType = F32
    flops_per_element = 0

    def infer(self) -> TensorType:
        same = self.x.dtype.bits == self.dtype.bits
        self.require(same, f"{self.dtype} has another number of bits")
        return self.x.type.with_dtype(self.dtype)

    def semantics(self, x: Array) -> Array:
        return np.ascontiguousarray(x).view(self.dtype.numpy).reshape(x.shape)


def _erf(x: Array) -> Array:
    # math.erf is exact to double precision; this is an oracle, not a kernel.
    return np.vectorize(math.erf, otypes=[np.float64])(x).astype(x.dtype) if x.size else x
