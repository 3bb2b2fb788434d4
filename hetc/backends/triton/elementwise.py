"""Elementwise ops of the IR as functions of row programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hetc.backends.triton.layouts import Refusal
from hetc.backends.triton.row_expressions import apply
from hetc.backends.triton.row_program import Expression, Function, Number
from hetc.ir.op import Op
from hetc.ir.ops.activation import Gated
from hetc.ir.ops.binary import Pow
from hetc.ir.ops.unary import Cast, Gelu

_SAME: dict[str, Function] = {
    name: name
    for name in (
        "add", "sub", "mul", "div", "maximum", "minimum", "neg", "abs", "exp", "log", "sqrt",
        "rsqrt", "sin", "cos", "tanh", "erf", "sigmoid", "silu", "relu",
    )
}  # fmt: skip
_GATES: dict[str, Function] = {
    "silu": "silu",
    "gelu": "gelu",
    "gelu_tanh": "gelu_tanh",
    "sigmoid": "sigmoid",
}
_SPECIAL = frozenset({"gelu", "gated", "cast", "pow", "reciprocal", "softplus", "square"})
KINDS = frozenset(_SAME) | _SPECIAL


def elementwise(op: Op, xs: Sequence[Expression]) -> Expression:
    """`op` of its operands and literals, in the order of its fields; raises Refusal
    (HETC-E050)."""
    if op.kind in _SAME:
        return apply(_SAME[op.kind], *xs)
    match op:
        case Gelu():
            return apply("gelu_tanh" if op.tanh else "gelu", *xs)
        case Gated() if op.activation in _GATES:
            return apply("mul", apply(_GATES[op.activation], xs[0]), xs[1])
        case Cast() if op.dtype.is_float or not op.x.dtype.is_float:
            return xs[0]
        case Pow() if isinstance(op.y, int | float) and op.y in _POWERS:
            return _POWERS[op.y](xs[0])
    if op.kind == "reciprocal":
        return apply("div", Number(1.0), *xs)
    if op.kind == "softplus":
        low = apply("log", apply("add", 1.0, apply("exp", apply("neg", apply("abs", *xs)))))
        return apply("add", apply("maximum", xs[0], 0.0), low)
    raise Refusal("HETC-E050", f"a GPU kernel has no form of {op.kind}", op.loc)


_POWERS: dict[float, Callable[[Expression], Expression]] = {
    2.0: lambda x: apply("square", x),
    3.0: lambda x: apply("mul", apply("square", x), x),
    0.5: lambda x: apply("sqrt", x),
    -0.5: lambda x: apply("rsqrt", x),
    1.0: lambda x: x,
    -1.0: lambda x: apply("div", 1.0, x),
}


def activation_of(op: Op) -> Function | None:
    """The name of an op that is an activation of a product's result."""
    match op.kind:
        case "silu" | "relu" | "sigmoid" | "tanh":
            return _SAME[op.kind]
        case "gelu":
            assert isinstance(op, Gelu)
            return "gelu_tanh" if op.tanh else "gelu"
    return None
