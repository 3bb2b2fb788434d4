"""Lift activations: silu and gelu from their arithmetic, and gated MLPs."""

from __future__ import annotations

import math

from hetc.errors import Reason
from hetc.ir.graph import Graph
from hetc.ir.op import Op
from hetc.ir.ops.activation import GATES, Gated
from hetc.ir.ops.elementwise import Add, Div, Erf, Gelu, Mul, Pow, Sigmoid, Silu, Tanh
from hetc.passes.rewrite import Match, Rewrite, apply, literal, node, skip_casts, var

mul, add, div, erf, tanh, power = map(node, (Mul, Add, Div, Erf, Tanh, Pow))
x, gate, up = var("x"), var("gate"), var("up")
half, one = literal("half", 0.5), literal("one", 1)
_CUBES = (power(x, literal("three", 3)), mul(mul(x, x), x), mul(x, mul(x, x)))
_CURVED = tuple(add(x, mul(cube, literal("c"))) for cube in _CUBES)
_INNER = (
    *(mul(curved, literal("k")) for curved in _CURVED),
    # Bloom takes x out of the bracket: k * x * (1 + c * x * x).
    mul(mul(x, literal("k")), add(mul(mul(x, literal("c")), x), one)),
)


class LiftSilu(Rewrite):
    """x * sigmoid(x)  ->  silu(x)"""

    patterns = (mul(x, node(Sigmoid)(x)),)

    def rewrite(self, match: Match) -> Op:
        return Silu(match.value("x"), loc=match.root.loc)


class LiftGelu(Rewrite):
    """0.5 * x * (1 + erf(x / sqrt(2)))  ->  gelu(x)"""

    scaled = (div(x, literal("root")), mul(x, literal("root")))
    patterns = tuple(
        form
        for inner in scaled
        for form in (
            mul(mul(x, half), add(erf(inner), one)),
            mul(mul(x, add(erf(inner), one)), half),
            mul(x, mul(add(erf(inner), one), half)),
        )
    )

    def check(self, match: Match) -> Reason | None:
        root = match.number("root")
        if not any(
            math.isclose(root, wanted, rel_tol=1e-5) for wanted in (math.sqrt(2), math.sqrt(0.5))
        ):
            return Reason("HETC-C030", "the erf is not of x / sqrt(2)", at=match.root.loc)
        return None

    def rewrite(self, match: Match) -> Op:
        return Gelu(match.value("x"), loc=match.root.loc)


class LiftGeluTanh(Rewrite):
    """0.5 * x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x^3)))  ->  gelu(x, tanh)"""

    patterns = tuple(
        form
        for inner in _INNER
        for form in (
            mul(mul(x, half), add(tanh(inner), one)),
            mul(mul(x, add(tanh(inner), one)), half),
        )
    )

    def check(self, match: Match) -> Reason | None:
        right = math.isclose(match.number("k"), math.sqrt(2 / math.pi), rel_tol=1e-4)
        if not right or not math.isclose(match.number("c"), 0.044715, rel_tol=1e-4):
            return Reason("HETC-C031", "the constants are not those of gelu", at=match.root.loc)
        return None

    def rewrite(self, match: Match) -> Op:
        return Gelu(match.value("x"), tanh=True, loc=match.root.loc)


class LiftGated(Rewrite):
    """act(gate) * up  ->  gated(gate, up): the elementwise heart of a gated MLP (Shazeer 2020)"""

    patterns = (
        mul(node(Silu, "act")(gate), up),
        mul(node(Gelu, "act")(gate), up),
        mul(node(Sigmoid, "act")(gate), up),
    )

    def check(self, match: Match) -> Reason | None:
        a, b = match.value("gate"), skip_casts(match.value("up"))
        if a.shape != b.shape or a is b or a.rank < 2:
            return Reason("HETC-C032", "gate and up differ in shape", at=match.root.loc)
        if a.dtype is not b.dtype:
            return Reason("HETC-C033", "gate and up differ in dtype", at=match.root.loc)
        return None

    def rewrite(self, match: Match) -> Op:
        act = match.op("act")
        name = next(key for key, gate_of in GATES.items() if gate_of.matches(act))
        return Gated(match.value("gate"), skip_casts(match.value("up")), name, loc=match.root.loc)


def lift_activations(graph: Graph) -> Graph:
    """Activations written out become ops, then their products with a second branch become
    `gated`."""
    lifted = apply(graph, (LiftSilu(), LiftGelu(), LiftGeluTanh()))
    return apply(lifted, (LiftGated(),))
