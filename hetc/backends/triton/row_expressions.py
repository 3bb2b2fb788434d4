"""Expressions that row programs have in common, under their names: norms, softmax, rotary, gates.

Numbers stand where an expression may: `apply("mul", x, 2.0)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce as fold

from hetc.backends.triton.row_program import (
    Apply,
    At,
    Below,
    Column,
    Expression,
    Function,
    Number,
    Reduce,
)

# Of finite numbers, as f32.
_LEAST = -3.0e38


def apply(function: Function, *arguments: Expression | float) -> Expression:
    """`function` of expressions and numbers."""
    return Apply(function, tuple(Number(x) if isinstance(x, int | float) else x for x in arguments))


def total(terms: Sequence[Expression]) -> Expression:
    """The sum of `terms`, from the first on."""
    return fold(lambda x, y: apply("add", x, y), terms)


def rms_norm(
    x: Expression, weight: Expression | None = None, eps: float = 1e-6, offset: float = 0.0
) -> Expression:
    """`x / rms(x) * (weight + offset)`: the IR's `rms_norm`."""
    mean_square = Reduce("mean", apply("square", x))
    scaled = apply("mul", x, apply("rsqrt", apply("add", mean_square, eps)))
    if weight is None:
        return scaled
    return apply("mul", scaled, apply("add", weight, offset) if offset else weight)


def layer_norm(
    x: Expression,
    weight: Expression | None = None,
    bias: Expression | None = None,
    eps: float = 1e-5,
) -> Expression:
    """`(x - mean) / std * weight + bias`: the IR's `layer_norm`."""
    centred = apply("sub", x, Reduce("mean", x))
    variance = Reduce("mean", apply("square", centred))
    scaled = apply("mul", centred, apply("rsqrt", apply("add", variance, eps)))
    if weight is not None:
        scaled = apply("mul", scaled, weight)
    return scaled if bias is None else apply("add", scaled, bias)


def softmax(x: Expression, *, safe: bool = False) -> Expression:
    """`exp(x) / sum(exp(x))` over the row, from which the largest is taken first; zeros for a row
    of -inf if it is `safe`."""
    largest: Expression = Reduce("max", x)
    if safe:
        largest = apply("maximum", largest, _LEAST)
    weights = apply("exp", apply("sub", x, largest))
    whole: Expression = Reduce("sum", weights)
    # That of any other row is at least the largest's, 1.
    return apply("div", weights, apply("maximum", whole, 0.5) if safe else whole)


def rotary(
    x: Expression,
    cos: Expression,
    sin: Expression,
    *,
    columns: int,
    width: int | None = None,
    interleaved: bool = False,
) -> Expression:
    """`x` of `columns`, the first `width` of them turned by the angles of `cos` and `sin`: the IR's
    `rope`."""
    width = columns if width is None else width
    if interleaved:
        odd = At(Column(), modulo=2)
        before = apply("mul", At(x, offset=width - 1, modulo=width), odd)
        after = apply("mul", At(x, offset=1, modulo=width), apply("sub", 1.0, odd))
        turned = apply("sub", before, after)
    else:
        sign = Below(width // 2, Number(-1.0), Number(1.0))
        turned = apply("mul", At(x, offset=width // 2, modulo=width), sign)
    rotated = apply("add", apply("mul", x, cos), apply("mul", turned, sin))
    return rotated if width == columns else Below(width, rotated, x)


def gated(activation: Function, gate: Expression, up: Expression) -> Expression:
    """`activation(gate) * up`: the heart of a gated MLP."""
    return apply("mul", apply(activation, gate), up)


def softcap(x: Expression, cap: float) -> Expression:
    """`tanh(x / cap) * cap`."""
    return apply("mul", apply("tanh", apply("div", x, cap)), cap)


def nibble(byte: Expression, *, signed: bool) -> Expression:
    """The 4 bits of `byte` (0 to 255) that a column has: the low half of even ones, the high half
    of odd ones; from -8 to 7 in two's complement with `signed`."""
    high = apply("floor", apply("mul", byte, 1 / 16))
    low = apply("sub", byte, apply("mul", high, 16.0))
    odd = At(Column(), modulo=2)
    bits = apply("add", low, apply("mul", odd, apply("sub", high, low)))
    if not signed:
        return bits
    sign = apply("floor", apply("mul", bits, 1 / 8))
    return apply("sub", bits, apply("mul", sign, 16.0))
