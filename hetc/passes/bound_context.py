"""Bound the context: a table of learned positions has so many rows and no more."""

from __future__ import annotations

import numpy as np

from hetc.ir.dims import DimLike, evaluate, symbol, symbols_of
from hetc.ir.graph import Graph
from hetc.ir.interpret import WeightLookup, interpret
from hetc.ir.op import Op, Value
from hetc.ir.ops.index import Embedding, Gather, Index, TakeAlong
from hetc.ir.ops.reduce import CumSum
from hetc.ir.types import I64, TensorType
from hetc.passes.index_only import IndexOnly, cone, ops_behind
from hetc.passes.tokens import LENGTH

B = symbol("B")
# Of row numbers, evaluated at once: what is longer is not tried, and so not allowed.
MOST_ROWS = 2**24
# Sequences of one token each, tried where tokens are counted: one of them at least is no padding.
_TOKENS = np.array([[0], [1]])


def bound_context(graph: Graph, weights: WeightLookup, limit: int) -> int:
    """The longest sequence up to `limit` for which every position finds its row in every table that
    is read by position, or by a count of the tokens so far."""
    index_only = IndexOnly()
    for op in graph.ops:
        for ids, rows in _reads(op):
            if not isinstance(rows, int) or not _follows_length(ids):
                continue
            known = cone((ids,)) if index_only(ids) else _counted(ids, graph)
            if known is not None:
                limit = _longest(known, rows, weights, limit)
    return limit


def _reads(op: Op) -> list[tuple[Value, DimLike]]:
    """Row numbers that `op` reads by, and how many rows there are."""
    if isinstance(op, Embedding):
        return [(op.ids, op.table.shape[0])]
    if isinstance(op, (Gather, TakeAlong)):
        return [(op.ids, op.x.shape[op.axis])]
    if isinstance(op, Index):
        return [(ids, op.x.shape[axis]) for ids, axis in zip(op.ids, op.axes, strict=True)]
    return []


def _follows_length(ids: Value) -> bool:
    return any(symbols_of(dim) & {"S", "T"} for dim in ids.shape)


def _counted(ids: Value, graph: Graph) -> Graph | None:
    """How row numbers with a running sum in them follow from the tokens, by integers alone."""
    ops = ops_behind((ids,))
    sums = any(isinstance(op, CumSum) for op in ops)
    floats = any(value.dtype.is_float for op in ops for value in op.results)
    takes_tokens = [value.type for value in graph.inputs] == [TensorType(I64, (B, LENGTH))]
    if not sums or floats or not takes_tokens:
        return None
    return Graph("cone", graph.inputs, tuple(ops), (ids,))


def _longest(ids: Graph, rows: int, weights: WeightLookup, limit: int) -> int:
    """The longest sequence up to `limit` that reads no row past the last of `rows`.

    A table of positions is left after `rows` tokens or a few less; one of token types, whose
    row is always 0, is never left.
    """

    def fits(length: int) -> bool:
        inputs = [np.repeat(_TOKENS, length, axis=1)] * len(ids.inputs)
        (array,) = interpret(ids, inputs, weights, _sizes(length))
        return int(array.max()) < rows

    good, bad = 0, min(rows, limit)
    while fits(bad):
        good, bad = bad, min(2 * bad, limit)
        if good == limit or evaluate(ids.outputs[0].size, _sizes(bad)) > MOST_ROWS:
            return good
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def _sizes(length: int) -> dict[str, int]:
    return {"B": len(_TOKENS), "S": length, "T": length, "P": 0}
