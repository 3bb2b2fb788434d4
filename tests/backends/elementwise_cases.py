"""Instances of elementwise ops, casts and sources."""

from __future__ import annotations

from typing import Any

from hetc.ir.types import BF16, BOOL, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64
from tests.backends.cases import FLOATS, NUMBERS, B, Draw, S, case

SINGLE_OR_DOUBLE = (F32, F64)


@case("neg", "abs", "sign", "relu", "round", "floor", "ceil", "trunc")
def numeric(draw: Draw, op: Any) -> Any:
    dtype = draw.pick(*NUMBERS)
    return op(draw.x(draw.shape(), dtype, -3, 3))


@case("exp", "expm1", "sin", "cos", "tanh", "sigmoid", "silu", "softplus")
def function(draw: Draw, op: Any) -> Any:
    high = draw.pick(0.01, 2, 9)
    return op(draw.x(draw.shape(), draw.pick(*FLOATS), -high, high))


@case("acos", "asin", "atanh")
def inside_one(draw: Draw, op: Any) -> Any:
    return op(draw.x(draw.shape(), draw.pick(F32, BF16), -0.9, 0.9))


@case("asinh", "atan", "cosh", "sinh")
def hyperbolic(draw: Draw, op: Any) -> Any:
    return op(draw.x(draw.shape(), draw.pick(F32, BF16), -3, 3))


@case("acosh")
def above_one(draw: Draw, op: Any) -> Any:
    return op(draw.x(draw.shape(), draw.pick(F32, BF16), 1.1, 9))


@case("atan2")
def angle(draw: Draw, op: Any) -> Any:
    ends = [float("-inf"), -2.0, -0.0, 0.0, 2.0, float("inf")]
    x, y = (draw.x((B, S, 6), F32) for _ in range(2))
    for array in draw.arrays:
        array[..., :5] = draw.rng.choice(ends, array[..., :5].shape)
    return op(x, y)


@case("erf", "tan")
def single(draw: Draw, op: Any) -> Any:
    return op(draw.x(draw.shape(), draw.pick(F32, BF16), -1.2, 1.2))


@case("log", "sqrt", "rsqrt", "reciprocal")
def positive(draw: Draw, op: Any) -> Any:
    return op(draw.x(draw.shape(), draw.pick(*FLOATS), 0.1, 9))


@case("log1p")
def above_minus_one(draw: Draw, op: Any) -> Any:
    low, high = draw.pick((-0.9, 3.0), (-1e-5, 1e-5), (1e4, 1e30))
    return op(draw.x(draw.shape(), draw.pick(*SINGLE_OR_DOUBLE), low, high))


@case("gelu")
def gelu(draw: Draw, op: Any) -> Any:
    return op(draw.x(draw.shape(), draw.pick(F32, BF16), -5, 5), tanh=draw.pick(True, False))


@case("gated")
def gated(draw: Draw, op: Any) -> Any:
    shape, dtype = draw.shape(), draw.pick(F32, BF16)
    activation = draw.pick("silu", "gelu", "gelu_tanh", "sigmoid")
    return op(draw.x(shape, dtype, -5, 5), draw.x(shape, dtype), activation)


@case("not", "and", "or", "xor")
def bits(draw: Draw, op: Any) -> Any:
    shape, dtype = draw.shape(), draw.pick(BOOL, I64, I32, I16, I8, U8)
    operands = [draw.x(shape, dtype, -9, 9)]
    if op.kind != "not":
        operands.append(draw.x(draw.pick(shape, shape[-1:]), dtype, -9, 9))
    return op(*operands)


@case("shift_left", "shift_right")
def shift(draw: Draw, op: Any) -> Any:
    shape = draw.shape()
    distance = draw.pick(draw.x(shape, U8, 0, 9), draw.x(shape[-1:], U8, 0, 9), 3)
    return op(draw.x(shape, U8, 0, 200), distance)


@case("bitcast")
def bit_pattern(draw: Draw, op: Any) -> Any:
    source, to = draw.pick((I8, U8), (U8, I8), (I32, U32), (I64, U64), (I16, U16))
    return op(draw.x(draw.shape(), source, -9 if source is not U8 else 0, 9), to)


@case("is_nan", "is_inf")
def special(draw: Draw, op: Any) -> Any:
    value = draw.x((B, S, 4), draw.pick(F32, F64, BF16, I64))
    if value.dtype.is_float:
        draw.arrays[0][..., 0] = draw.pick(float("nan"), float("inf"), float("-inf"))
    return op(value)


@case("add", "sub", "mul", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge")
def binary(draw: Draw, op: Any) -> Any:
    shape, dtype = draw.shape(), draw.pick(*NUMBERS)
    x = draw.x(shape, dtype, -3, 3)
    other = draw.pick(shape, shape[-1:], (1,) * len(shape), ())
    literal = 2 if dtype.is_int else draw.pick(0.5, -1.25, 1)
    y = draw.pick(draw.x(other, dtype, -3, 3), draw.x(other, dtype, -3, 3), literal, S)
    if dtype is U8 and op.kind == "sub":
        return op(y, y) if y in draw.values else op(x, x)
    return op(x, y) if draw.upto(0, 1) else op(y, x)


@case("div", "floor_div", "mod", "fmod")
def division(draw: Draw, op: Any) -> Any:
    shape, dtype = draw.shape(), draw.pick(*NUMBERS)
    x = draw.x(shape, dtype, -40, 40)
    y = draw.x(draw.pick(shape, shape[-1:]), dtype, 1, 7)
    if dtype is not U8 and draw.upto(0, 1):
        draw.arrays[-1] = -draw.arrays[-1]
    return op(x, draw.pick(y, 3))


@case("pow")
def power(draw: Draw, op: Any) -> Any:
    dtype = draw.pick(F32, F64, BF16, I64, I32)
    if dtype.is_int:
        return op(draw.x(draw.shape(), dtype, -3, 3), draw.pick(0, 1, 2, 3))
    if draw.upto(0, 1):
        # The rates of rotary embeddings: base ** exponents.
        return op(10000.0, draw.x(draw.shape(), dtype, -1, 0))
    return op(draw.x(draw.shape(), dtype, 0.1, 3), draw.pick(2, 0.5, -1.5, 3.0))


@case("where")
def where(draw: Draw, op: Any) -> Any:
    shape, dtype = draw.shape(), draw.pick(*NUMBERS, BOOL)
    condition = draw.x(draw.pick(shape, shape[-1:]), BOOL)
    if draw.upto(0, 3) == 0:
        return op(condition, 0.0, float("-inf"), dtype=draw.pick(F32, BF16))
    x = draw.x(shape, dtype)
    y = draw.pick(draw.x(shape[-1:], dtype), draw.x((), dtype), True if dtype is BOOL else 1)
    return op(condition, x, y) if draw.upto(0, 1) else op(condition, y, x)


@case("cast")
def cast(draw: Draw, op: Any) -> Any:
    types = (F32, F64, BF16, F16, I64, I32, I16, I8, U8, BOOL)
    return op(draw.x(draw.shape(), draw.pick(*types), 0, 9), draw.pick(*types))


@case("iota")
def iota(draw: Draw, op: Any) -> Any:
    dtype = draw.pick(I64, I32, F32, F64, BF16)
    start = draw.pick(0, 3, -2, S, 2 * B + 1)
    return op(draw.pick(S, 4, B * S), start, draw.pick(1, 2, -1), dtype)


@case("full")
def full(draw: Draw, op: Any) -> Any:
    dtype = draw.pick(F32, BF16, I64, BOOL, I8)
    value = draw.pick(S, B * S) if dtype in (F32, I64) and draw.upto(0, 1) else draw.pick(0, 1)
    return op(value, draw.pick((), (B, S), (2, S), (3,)), dtype)


@case("constant")
def constant(draw: Draw, op: Any) -> Any:
    dtype = draw.pick(F32, F64, BF16, F16, I64, I8)
    return op(draw.pick(2, (1, 2, 3), ((1, 0), (0, 1)), ()), dtype)
