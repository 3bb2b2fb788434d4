"""Chains of elementwise ops as one expression of vectors: what stands between is never stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hetc.backends.native import vector_math as fn
from hetc.backends.native.ssa import Emitter, Ssa
from hetc.ir.op import Op, Value
from hetc.ir.ops.activation import Gated
from hetc.ir.ops.elementwise import (
    Abs,
    Add,
    Cast,
    Div,
    Erf,
    Exp,
    Floor,
    Gelu,
    Log,
    Maximum,
    Minimum,
    Mul,
    Neg,
    Pow,
    Reciprocal,
    Relu,
    Round,
    Rsqrt,
    Sigmoid,
    Silu,
    Softplus,
    Sqrt,
    Sub,
    Tanh,
)

Load = Callable[[Value], Ssa]
Unary = Callable[[Emitter, Ssa], Ssa]
Binary = Callable[[Emitter, Ssa, Ssa], Ssa]


def _reciprocal(e: Emitter, x: Ssa) -> Ssa:
    return e.div(e.number(1.0, x), x)


_UNARY: Mapping[type[Op], Unary] = {
    Abs: lambda e, x: e.intrinsic("fabs", x),
    Cast: lambda e, x: x,
    Erf: fn.erf,
    Exp: fn.exp,
    Floor: lambda e, x: e.intrinsic("floor", x),
    Log: fn.log,
    Neg: fn.negative,
    Reciprocal: _reciprocal,
    Relu: lambda e, x: e.maximum(x, e.number(0.0, x)),
    Round: lambda e, x: e.intrinsic("rint", x),
    Rsqrt: lambda e, x: _reciprocal(e, e.intrinsic("sqrt", x)),
    Sigmoid: fn.sigmoid,
    Silu: fn.silu,
    Softplus: fn.softplus,
    Sqrt: lambda e, x: e.intrinsic("sqrt", x),
    Tanh: fn.tanh,
}
_BINARY: Mapping[type[Op], Binary] = {
    Add: Emitter.add,
    Div: Emitter.div,
    Maximum: Emitter.maximum,
    Minimum: Emitter.minimum,
    Mul: Emitter.mul,
    Sub: Emitter.sub,
}
_GATES: Mapping[str, Unary] = {
    "silu": fn.silu,
    "gelu": fn.gelu,
    "gelu_tanh": fn.gelu_tanh,
    "sigmoid": fn.sigmoid,
}
# x^n by multiplication, for the powers that models write out.
_MOST_FACTORS = 4


def is_expression(op: Op) -> bool:
    """Whether `op` is computed element by element here."""
    if isinstance(op, Pow):
        return type(op.y) in (int, float) and op.y in range(1, _MOST_FACTORS + 1)
    return type(op) in _UNARY or type(op) in _BINARY or isinstance(op, Gated | Gelu)


def evaluate(e: Emitter, op: Op, load: Load) -> Ssa:
    """The result of `op` for some lanes; `load` gives those of an operand."""
    if isinstance(op, Gelu):
        return (fn.gelu_tanh if op.tanh else fn.gelu)(e, load(op.x))
    if isinstance(op, Gated):
        return e.mul(_GATES[op.activation](e, load(op.gate)), load(op.up))
    if isinstance(op, Pow) and isinstance(op.y, int | float):
        return _power(e, op, int(op.y), load)
    if type(op) in _UNARY:
        return _UNARY[type(op)](e, load(op.operands[0]))
    x, y = _both(e, op, load)
    return _BINARY[type(op)](e, x, y)


def _both(e: Emitter, op: Any, load: Load) -> tuple[Ssa, Ssa]:
    if not isinstance(op.x, Value):
        y = load(op.y)
        return e.number(float(op.x), y), y
    x = load(op.x)
    return x, load(op.y) if isinstance(op.y, Value) else e.number(float(op.y), x)


def _power(e: Emitter, op: Pow, factors: int, load: Load) -> Ssa:
    x = load(op.operands[0])
    total = x
    for _ in range(factors - 1):
        total = e.mul(total, x)
    return total
