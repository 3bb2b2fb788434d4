"""Functions of one element, activations and casts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hetc.backends.onnx.elements import computed
from hetc.backends.onnx.table import Context, emits
from hetc.ir.op import Op
from hetc.ir.ops.activation import Gated
from hetc.ir.ops.unary import (
    Abs,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    BitCast,
    Cast,
    Ceil,
    Cos,
    Cosh,
    Erf,
    Exp,
    Expm1,
    Floor,
    Gelu,
    IsInf,
    IsNan,
    Log,
    Log1p,
    Neg,
    Not,
    Reciprocal,
    Relu,
    Round,
    Rsqrt,
    Sigmoid,
    Sign,
    Silu,
    Sin,
    Sinh,
    Softplus,
    Sqrt,
    Tan,
    Tanh,
    Trunc,
)
from hetc.ir.types import BOOL

_SAME: dict[type[Op], str] = {
    Neg: "Neg",
    Abs: "Abs",
    Sign: "Sign",
    Exp: "Exp",
    Log: "Log",
    Sqrt: "Sqrt",
    Reciprocal: "Reciprocal",
    Sin: "Sin",
    Cos: "Cos",
    Tanh: "Tanh",
    Acos: "Acos",
    Acosh: "Acosh",
    Asin: "Asin",
    Asinh: "Asinh",
    Atan: "Atan",
    Atanh: "Atanh",
    Cosh: "Cosh",
    Sinh: "Sinh",
    Sigmoid: "Sigmoid",
    Erf: "Erf",
}


def _same(onnx: str) -> Callable[[Context, Any], str]:
    def emit(c: Context, op: Any) -> str:
        return c.w.typed(onnx, op.x.dtype, c.w[op.x])

    return emit


def _rounded(onnx: str) -> Callable[[Context, Any], str]:
    def emit(c: Context, op: Any) -> str:
        return c.w.node(onnx, c.w[op.x]) if op.x.dtype.is_float else c.w[op.x]

    return emit


for _op, _name in _SAME.items():
    emits(_op, kernels=(_name,))(_same(_name))
for _op, _name in {Floor: "Floor", Ceil: "Ceil", Round: "Round"}.items():
    emits(_op)(_rounded(_name))


@emits(Trunc)
def trunc(c: Context, op: Trunc) -> str:
    x = c.w[op.x]
    if not op.x.dtype.is_float:
        return x
    return c.w.node("Mul", c.w.node("Floor", c.w.node("Abs", x)), c.w.node("Sign", x))


@emits(Rsqrt, kernels=("Sqrt",))
def rsqrt(c: Context, op: Rsqrt) -> str:
    return c.w.node("Reciprocal", c.w.node("Sqrt", c.w[op.x]))


@emits(Tan, kernels=("Sin",))
def tan(c: Context, op: Tan) -> str:
    return c.w.node("Div", c.w.node("Sin", c.w[op.x]), c.w.node("Cos", c.w[op.x]))


@emits(Relu, kernels=("Max",))
def relu(c: Context, op: Relu) -> str:
    return c.w.typed("Max", op.x.dtype, c.w[op.x], c.w.constant(0, op.x.dtype))


@emits(Not)
def invert(c: Context, op: Not) -> str:
    return c.w.node("Not" if op.x.dtype is BOOL else "BitwiseNot", c.w[op.x])


@emits(IsNan)
def is_nan(c: Context, op: IsNan) -> str:
    return _test_float(c, "IsNaN", op)


@emits(IsInf)
def is_inf(c: Context, op: IsInf) -> str:
    return _test_float(c, "IsInf", op)


def _test_float(c: Context, onnx: str, op: Any) -> str:
    if op.x.dtype.is_float:
        return c.w.node(onnx, c.w[op.x])
    # An integer never is; the answer still has its shape.
    return c.w.node("Not", c.w.test("Equal", op.x.dtype, c.w[op.x], c.w[op.x]))


@emits(Expm1, kernels=("Tanh",))
def expm1(c: Context, op: Expm1) -> str:
    # exp(x) - 1 loses digits near 0; there it is 2t / (1 - t) with t = tanh(x / 2).
    x, dtype = c.w[op.x], op.x.dtype
    one, half = c.w.constant(1, dtype), c.w.constant(0.5, dtype)
    t = c.w.node("Tanh", c.w.node("Mul", x, half))
    near = c.w.node("Div", c.w.node("Add", t, t), c.w.node("Sub", one, t))
    far = c.w.node("Sub", c.w.node("Exp", x), one)
    return c.w.node("Where", c.w.node("Less", c.w.node("Abs", x), half), near, far)


@emits(Log1p, kernels=("Log",))
def log1p(c: Context, op: Log1p) -> str:
    # With u = 1 + x rounded, log(u) * x / (u - 1) undoes the rounding (Goldberg 1991, theorem 4).
    x, dtype = c.w[op.x], op.x.dtype
    one = c.w.constant(1, dtype)
    u = c.w.node("Add", x, one)
    log = c.w.node("Log", u)
    mended = c.w.node("Mul", log, c.w.node("Div", x, c.w.node("Sub", u, one)))
    large = c.w.node("Greater", x, c.w.constant(1e5, dtype))
    rest = c.w.node("Where", large, log, mended)
    return c.w.node("Where", c.w.node("Equal", u, one), x, rest)


@emits(Softplus, kernels=("Exp",))
def softplus(c: Context, op: Softplus) -> str:
    x, dtype = c.w[op.x], op.x.dtype
    if computed(dtype).bits == 32:
        return c.w.node("Softplus", x)
    decayed = c.w.node("Exp", c.w.node("Neg", c.w.node("Abs", x)))
    log = c.w.node("Log", c.w.node("Add", decayed, c.w.constant(1, dtype)))
    return c.w.node("Add", c.w.node("Max", x, c.w.constant(0, dtype)), log)


@emits(Silu, kernels=("Sigmoid",))
def silu(c: Context, op: Silu) -> str:
    return _silu(c, c.w[op.x])


def _silu(c: Context, x: str) -> str:
    return c.w.node("Mul", x, c.w.node("Sigmoid", x))


@emits(Gelu, kernels=("Gelu",))
def gelu(c: Context, op: Gelu) -> str:
    return _gelu(c, c.w[op.x], tanh=op.tanh)


def _gelu(c: Context, x: str, *, tanh: bool) -> str:
    return c.w.node("Gelu", x, approximate="tanh" if tanh else "none")


_GATES: dict[str, Callable[[Context, str], str]] = {
    "silu": _silu,
    "gelu": lambda c, x: _gelu(c, x, tanh=False),
    "gelu_tanh": lambda c, x: _gelu(c, x, tanh=True),
    "sigmoid": lambda c, x: c.w.node("Sigmoid", x),
}


def _unknown_gate(op: Gated) -> str | None:
    return None if op.activation in _GATES else f"the activation {op.activation}"


@emits(Gated, kernels=("Gelu",), refuse=_unknown_gate)
def gated(c: Context, op: Gated) -> str:
    return c.w.node("Mul", _GATES[op.activation](c, c.w[op.gate]), c.w[op.up])


@emits(Cast)
def cast(c: Context, op: Cast) -> str:
    source, target = computed(op.x.dtype), computed(op.dtype)
    return c.w[op.x] if source is target else c.w.cast(c.w[op.x], target)


def _of_floats(op: BitCast) -> str | None:
    floats = op.x.dtype.is_float or op.dtype.is_float
    return "the bits of floats, which are computed in f32" if floats else None


@emits(BitCast, refuse=_of_floats)
def bit_cast(c: Context, op: BitCast) -> str:
    # Between integers of one width a cast keeps the bits.
    return c.w.cast(c.w[op.x], op.dtype)
