"""What quantization costs: the logits of a graph before and after, on the same tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hetc.ir.graph import Graph
from hetc.ir.interpret import WeightLookup, interpret
from hetc.ir.ops.source import Weight
from hetc.ir.types import F32, Array
from hetc.passes.retype import float_dtype, retype
from hetc.passes.whole_weights import whole_weights


@dataclass(frozen=True)
class Quality:
    """Over `tokens` next-token distributions: the mean Kullback-Leibler divergence of the quantized
    from the original, in nats, and the part in which the likeliest token is the same."""

    tokens: int
    kl: float
    same_top: float


def quality(
    before: Graph,
    weights: WeightLookup,
    after: Graph,
    quantized: WeightLookup,
    tokens: Array,
) -> Quality:
    """Compare `forward` with itself on `tokens i64[1, S]`, both in f32 (and so in nothing but the
    weights)."""
    wanted, found = _log_softmax(before, weights, tokens), _log_softmax(after, quantized, tokens)
    divergence = np.sum(np.exp(wanted) * (wanted - found), axis=-1)
    same = wanted.argmax(-1) == found.argmax(-1)
    return Quality(len(divergence), float(divergence.mean()), float(same.mean()))


def _log_softmax(graph: Graph, weights: WeightLookup, tokens: Array) -> Array:
    """Of every position, f64[S, V]."""
    graph, whole = whole_weights(retype(graph, float_dtype(graph), F32), weights)
    types = {op.name: op.type.dtype.numpy for op in graph.ops if isinstance(op, Weight)}
    logits, *_ = interpret(graph, (tokens,), lambda name: whole(name).astype(types[name]))
    rows = logits[0].astype(np.float64)
    rows -= rows.max(-1, keepdims=True)
    result: Array = rows - np.log(np.exp(rows).sum(-1, keepdims=True))
    return result
