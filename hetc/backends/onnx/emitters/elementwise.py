"""Arithmetic, comparisons and choices, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hetc.backends.onnx.elements import computed
from hetc.backends.onnx.table import Context, emits
from hetc.ir.dims import Dim
from hetc.ir.op import Op, Scalar, Value
from hetc.ir.ops.binary import (
    Add,
    And,
    Atan2,
    Div,
    Eq,
    FloorDiv,
    FMod,
    Ge,
    Gt,
    Le,
    Lt,
    Maximum,
    Minimum,
    Mod,
    Mul,
    Ne,
    Or,
    Pow,
    ShiftLeft,
    ShiftRight,
    Sub,
    Where,
    Xor,
)
from hetc.ir.ops.elementwise_base import literal_array
from hetc.ir.types import BOOL, I16, I32, DType


def operand(c: Context, item: Scalar, dtype: DType) -> str:
    """The name of an operand that may be a literal or a size."""
    if isinstance(item, Value):
        return c.w[item]
    if isinstance(item, Dim):
        return c.sizes.scalar(item, dtype)
    return c.w.array(literal_array(item, dtype.numpy).astype(computed(dtype).numpy))


def _pair(c: Context, op: Any) -> tuple[str, str, DType]:
    dtype = op.operands[0].dtype
    return operand(c, op.x, dtype), operand(c, op.y, dtype), dtype


def _of_sizes(op: Any) -> str | None:
    literals = [item for item in (op.x, op.y) if isinstance(item, Dim)]
    return "a size as an operand of bools" if literals and op.operands[0].dtype is BOOL else None


def _plain(onnx: str) -> Callable[[Context, Any], str]:
    def emit(c: Context, op: Any) -> str:
        x, y, dtype = _pair(c, op)
        return c.w.typed(onnx, dtype, x, y)

    return emit


def _compared(onnx: str) -> Callable[[Context, Any], str]:
    def emit(c: Context, op: Any) -> str:
        x, y, dtype = _pair(c, op)
        return c.w.test(onnx, dtype, x, y)

    return emit


def _bits(logical: str, bitwise: str) -> Callable[[Context, Any], str]:
    def emit(c: Context, op: Any) -> str:
        x, y, dtype = _pair(c, op)
        return c.w.node(logical if dtype is BOOL else bitwise, x, y)

    return emit


def _no_bits(op: Op) -> str | None:
    return "bits of floats" if op.operands[0].dtype.is_float else None


_ARITHMETIC: dict[type[Op], str] = {
    Add: "Add",
    Sub: "Sub",
    Mul: "Mul",
    Div: "Div",
    Maximum: "Max",
    Minimum: "Min",
}
_COMPARISONS: dict[type[Op], str] = {
    Eq: "Equal",
    Lt: "Less",
    Le: "LessOrEqual",
    Gt: "Greater",
    Ge: "GreaterOrEqual",
}
for _op, _name in _ARITHMETIC.items():
    emits(_op, kernels=(_name,), refuse=_of_sizes)(_plain(_name))
for _op, _name in _COMPARISONS.items():
    emits(_op, kernels=(_name,))(_compared(_name))
for _op, _name in {And: "And", Or: "Or", Xor: "Xor"}.items():
    emits(_op, refuse=_no_bits)(_bits(_name, f"Bitwise{_name}"))


@emits(ShiftLeft, ShiftRight, kernels=("BitShift",), refuse=_of_sizes)
def shift(c: Context, op: ShiftLeft | ShiftRight) -> str:
    x, y, dtype = _pair(c, op)
    width = c.w.constant(dtype.bits, dtype)
    direction = "LEFT" if isinstance(op, ShiftLeft) else "RIGHT"
    # C leaves a distance of the width or more undefined.
    near = c.w.node("Less", y, width)
    distance = c.w.node("Where", near, y, c.w.constant(0, dtype))
    shifted = c.w.node("BitShift", x, distance, direction=direction)
    return c.w.node("Where", near, shifted, c.w.constant(0, dtype))


@emits(Pow, kernels=("Pow",), refuse=_of_sizes)
def power(c: Context, op: Pow) -> str:
    x, y, dtype = _pair(c, op)
    return c.w.typed("Pow", dtype, x, y)


@emits(Ne)
def not_equal(c: Context, op: Ne) -> str:
    x, y, dtype = _pair(c, op)
    return c.w.node("Not", c.w.test("Equal", dtype, x, y))


def _rest(c: Context, x: str, y: str, dtype: DType) -> tuple[str, str]:
    """The remainder of floats with the sign of x, and where y has another."""
    rest, zero = c.w.node("Mod", x, y, fmod=1), c.w.constant(0, dtype)
    turned = c.w.node("Xor", c.w.node("Less", rest, zero), c.w.node("Less", y, zero))
    inexact = c.w.node("Not", c.w.node("Equal", rest, zero))
    return rest, c.w.node("And", inexact, turned)


def _remainder(c: Context, x: str, y: str, dtype: DType) -> str:
    """With the sign of the divisor, as in Python; ONNX's has that for integers only."""
    if not dtype.is_float:
        return c.w.typed("Mod", dtype, x, y)
    rest, turned = _rest(c, x, y, dtype)
    return c.w.node("Where", turned, c.w.node("Add", rest, y), rest)


@emits(Mod, kernels=("Mod",), refuse=_of_sizes)
def modulo(c: Context, op: Mod) -> str:
    return _remainder(c, *_pair(c, op))


@emits(FloorDiv, kernels=("Mod",), refuse=_of_sizes)
def floor_div(c: Context, op: FloorDiv) -> str:
    x, y, dtype = _pair(c, op)
    whole = c.w.typed("Sub", dtype, x, _remainder(c, x, y, dtype))
    quotient = c.w.typed("Div", dtype, whole, y)
    if not dtype.is_float:
        return quotient
    # The quotient is an integer but for rounding. By 0 it is that of x, and by an infinity 0, or -1
    # where the signs differ.
    exact, zero = c.w.node("Div", x, y), c.w.constant(0, dtype)
    below = c.w.node("Where", _rest(c, x, y, dtype)[1], c.w.constant(-1, dtype), zero)
    far = c.w.node(
        "Where", c.w.node("IsInf", y), c.w.node("Add", exact, below), c.w.node("Round", quotient)
    )
    return c.w.node("Where", c.w.node("Equal", y, zero), exact, far)


@emits(FMod, kernels=("Mod",), refuse=_of_sizes)
def fmod(c: Context, op: FMod) -> str:
    x, y, dtype = _pair(c, op)
    return c.w.typed("Mod", dtype, x, y, fmod=1)


@emits(Atan2, kernels=("Atan",))
def atan2(c: Context, op: Atan2) -> str:
    y, x, dtype = _pair(c, op)
    zero, one = c.w.constant(0, dtype), c.w.constant(1, dtype)
    # Of two infinities only the signs count.
    infinite = c.w.node("And", c.w.node("IsInf", x), c.w.node("IsInf", y))
    x, y = (c.w.node("Where", infinite, c.w.node("Sign", item), item) for item in (x, y))
    below = c.w.node(
        # The reciprocal knows a negative zero, the comparison an infinity.
        "Or",
        c.w.node("Less", y, zero),
        c.w.node("Less", c.w.node("Div", one, y), zero),
    )
    left = c.w.node(
        "Or", c.w.node("Less", x, zero), c.w.node("Less", c.w.node("Div", one, x), zero)
    )
    half_turn = c.w.node(
        "Where", below, c.w.constant(-math.pi, dtype), c.w.constant(math.pi, dtype)
    )
    angle = c.w.node("Atan", c.w.node("Div", y, x))
    angle = c.w.node("Add", angle, c.w.node("Where", left, half_turn, zero))
    origin = c.w.node("And", c.w.node("Equal", x, zero), c.w.node("Equal", y, zero))
    return c.w.node("Where", origin, c.w.node("Where", left, half_turn, y), angle)


@emits(Where)
def where(c: Context, op: Where) -> str:
    dtype = op.result.dtype
    x, y = operand(c, op.x, dtype), operand(c, op.y, dtype)
    return choose(c, c.w[op.condition], x, y, dtype)


def choose(c: Context, condition: str, x: str, y: str, dtype: DType) -> str:
    """`x` where `condition` holds, else `y`."""
    if dtype is BOOL:
        # There is no kernel of bools; these three nodes cost less than two casts of either side.
        yes = c.w.node("And", condition, x)
        return c.w.node("Or", yes, c.w.node("And", c.w.node("Not", condition), y))
    if dtype is not I16:
        return c.w.node("Where", condition, x, y)
    return c.w.cast(c.w.node("Where", condition, c.w.cast(x, I32), c.w.cast(y, I32)), dtype)
