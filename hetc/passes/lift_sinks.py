"""Lift sinks: attention scaled by the share that a sink leaves it becomes attention with a sink."""

from __future__ import annotations

from hetc.errors import Reason
from hetc.ir.graph import Graph
from hetc.ir.op import Op
from hetc.ir.ops.elementwise import Cast, Mul, Sigmoid, Sub
from hetc.ir.ops.linear import MatMul
from hetc.ir.ops.reduce import LogSumExp, Softmax
from hetc.ir.ops.shape import Broadcast, Concat, Reshape, Slice, normalize_axis
from hetc.passes.rewrite import Match, Rewrite, apply, node, skip_casts, var

_softmax, _total = node(Softmax, "softmax")(var("scores")), node(LogSumExp, "total")(var("scores"))
_share = node(Sigmoid)(node(Sub)(_total, node(Reshape, "placed")(var("sinks"))))


class LiftSinks(Rewrite):
    """(softmax(s) @ v) * sigmoid(logsumexp(s) - sink)  ->  softmax([s, sink])[..., :-1] @ v

    exp(s) / Z * Z / (Z + exp(sink)), where Z is the sum of exp(s): the sink is one more logit.
    """

    patterns = (node(Mul)(node(MatMul)(_softmax, var("v")), node(Reshape, "gate")(_share)),)

    def check(self, match: Match) -> Reason | None:
        scores, sinks = match.value("scores"), match.value("sinks")
        softmax, total = match.op("softmax"), match.op("total")
        assert isinstance(softmax, Softmax)
        assert isinstance(total, LogSumExp)
        axes = {normalize_axis(axis, scores.rank) for axis in (softmax.axis, *total.axes)}
        per_head = scores.rank == 4 and sinks.shape == scores.shape[1:2]
        # Beside sums [B,H,S] or [B,H,S,1], the heads must be at axis 1.
        behind = (1,) * (total.result.rank - 2)
        placed = match.value("placed").shape
        per_head = per_head and placed[-len(behind) - 1 :] == (*sinks.shape, *behind)
        if axes != {scores.rank - 1} or not per_head:
            return Reason("HETC-C040", "the scale is no share of a sink a head", at=match.root.loc)
        if match.value("gate").shape != (*scores.shape[:-1], 1):
            return Reason("HETC-C040", "the scale is no share of a sink a head", at=match.root.loc)
        return None

    def rewrite(self, match: Match) -> Op:
        scores, loc = skip_casts(match.value("scores")), match.root.loc
        column = (*scores.shape[:-1], 1)
        sinks = Reshape(match.value("sinks"), (1, scores.shape[1], 1, 1), loc=loc).result
        if sinks.dtype is not scores.dtype:
            sinks = Cast(sinks, scores.dtype, loc=loc).result
        logits = Concat((scores, Broadcast(sinks, column, loc=loc).result), -1, loc=loc).result
        weights = Softmax(logits, -1, loc=loc).result
        kept = Slice(weights, scores.rank - 1, 0, scores.shape[-1], loc=loc).result
        v = skip_casts(match.value("v"))
        return MatMul(
            kept if kept.dtype is v.dtype else Cast(kept, v.dtype, loc=loc).result, v, loc=loc
        )


def lift_sinks(graph: Graph) -> Graph:
    """Attention that is scaled by the share of a sink gets the sink as one more logit."""
    return apply(graph, (LiftSinks(),))
