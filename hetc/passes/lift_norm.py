"""Lift norms: the arithmetic of RMSNorm and LayerNorm becomes one op."""

from __future__ import annotations

from hetc.errors import Reason
from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.ir.ops.elementwise import Add, Div, Mul, Pow, Reciprocal, Rsqrt, Sqrt, Sub
from hetc.ir.ops.norm import LayerNorm, RMSNorm
from hetc.ir.ops.reduce import Mean
from hetc.passes.rewrite import (
    Literal,
    Match,
    Node,
    Pattern,
    Rewrite,
    apply,
    literal,
    node,
    skip_casts,
    var,
)

mul, div, add, sub, mean, rsqrt, sqrt = map(node, (Mul, Div, Add, Sub, Mean, Rsqrt, Sqrt))
x, w, b, eps = var("x"), var("w"), var("b"), literal("eps")


def _squares(value: Pattern) -> tuple[Node, ...]:
    return node(Pow)(value, Literal("two", 2)), mul(value, value)


def _normalised(value: Pattern, square: Node) -> tuple[Node, ...]:
    variance = add(node(Mean, "mean")(square, keepdim=True), eps)
    half = node(Pow)(variance, Literal("half", -0.5))
    return (
        mul(value, rsqrt(variance)),
        div(value, sqrt(variance)),
        mul(value, div(literal("one", 1), sqrt(variance))),
        mul(value, node(Reciprocal)(sqrt(variance))),
        mul(value, half),
    )


_RMS = tuple(form for square in _squares(x) for form in _normalised(x, square))


class LiftRMSNorm(Rewrite):
    """x * rsqrt(mean(x^2) + eps)  ->  rms_norm(x, eps)"""

    patterns = _RMS

    def check(self, match: Match) -> Reason | None:
        return _last_axis_only(match)

    def rewrite(self, match: Match) -> Op:
        return RMSNorm(
            skip_casts(match.value("x")), None, eps=match.number("eps"), loc=match.root.loc
        )


class ScaleRMSNorm(Rewrite):
    """rms_norm(x) * w  ->  rms_norm(x, w), and with (1 + w) the same with an offset"""

    norm = node(RMSNorm, "norm")(x)
    patterns = (mul(norm, add(w, literal("offset"))), mul(norm, w))

    def check(self, match: Match) -> Reason | None:
        norm, weight = match.op("norm"), match.value("w")
        assert isinstance(norm, RMSNorm)
        if norm.weight is not None or weight.shape != norm.x.shape[-1:]:
            return Reason(
                "HETC-C021", "the scale is not a vector over the last axis", at=match.root.loc
            )
        return None

    def rewrite(self, match: Match) -> Op:
        norm = match.op("norm")
        assert isinstance(norm, RMSNorm)
        offset = match.number("offset") if "offset" in match.bound else 0.0
        return RMSNorm(
            norm.x, _like(match.value("w"), norm.x), norm.eps, offset, loc=match.root.loc
        )


def _centred(square_of: Pattern) -> Pattern:
    return sub(square_of, node(Mean, "centre")(square_of, keepdim=True))


class LiftLayerNorm(Rewrite):
    """(x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps)  ->  layer_norm(x, eps)"""

    patterns = tuple(
        form for square in _squares(_centred(x)) for form in _normalised(_centred(x), square)
    )

    def check(self, match: Match) -> Reason | None:
        return _last_axis_only(match)

    def rewrite(self, match: Match) -> Op:
        return LayerNorm(skip_casts(match.value("x")), eps=match.number("eps"), loc=match.root.loc)


class ScaleLayerNorm(Rewrite):
    """layer_norm(x) * w + b  ->  layer_norm(x, w, b)"""

    norm = node(LayerNorm, "norm")(x)
    patterns = (mul(norm, w), add(norm, b))

    def check(self, match: Match) -> Reason | None:
        norm = match.op("norm")
        assert isinstance(norm, LayerNorm)
        name = "w" if "w" in match.bound else "b"
        taken = norm.bias is not None or (name == "w" and norm.weight is not None)
        if taken or match.value(name).shape != norm.x.shape[-1:]:
            return Reason(
                "HETC-C021", "the scale is not a vector over the last axis", at=match.root.loc
            )
        return None

    def rewrite(self, match: Match) -> Op:
        norm = match.op("norm")
        assert isinstance(norm, LayerNorm)
        name = "weight" if "w" in match.bound else "bias"
        vector = _like(match.value("w" if "w" in match.bound else "b"), norm.x)
        return norm.replace(**{name: vector}, loc=match.root.loc)


def _last_axis_only(match: Match) -> Reason | None:
    mean_op = match.op("mean")
    assert isinstance(mean_op, Mean)
    if mean_op.axes not in ((-1,), (mean_op.x.rank - 1,)):
        return Reason("HETC-C020", "the mean is not over the last axis alone", at=match.root.loc)
    return None


def _like(vector: Value, x: Value) -> Value:
    source = skip_casts(vector)
    return source if source.dtype is x.dtype else vector


def lift_norms(graph: Graph) -> Graph:
    """RMSNorm and LayerNorm written out in arithmetic become `rms_norm` and `layer_norm`."""
    # LayerNorm first: what it centres would pass for the input of an RMSNorm.
    return apply(graph, (LiftLayerNorm(), ScaleLayerNorm(), LiftRMSNorm(), ScaleRMSNorm()))
