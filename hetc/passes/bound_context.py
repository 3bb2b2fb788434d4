"""Bound the context: a table of learned positions has so many rows and no more."""

from __future__ import annotations

from hetc.ir.dims import symbols_of
from hetc.ir.graph import Graph
from hetc.ir.interpret import WeightLookup, interpret
from hetc.ir.op import Value
from hetc.ir.ops.index import Embedding, Gather
from hetc.ir.ops.source import Weight
from hetc.passes.index_only import IndexOnly, cone


def bound_context(graph: Graph, weights: WeightLookup, limit: int) -> int:
    """The longest sequence up to `limit` for which every position finds its row in every table that
    is read by position."""
    index_only = IndexOnly()
    for op in graph.ops:
        if not isinstance(op, Embedding | Gather) or not index_only(op.ids):
            continue
        table = op.table if isinstance(op, Embedding) else op.x
        rows = table.shape[0]
        if isinstance(table.op, Weight) and isinstance(rows, int) and _follows_length(op.ids):
            limit = min(limit, rows - _last_row(op.ids, weights))
    return limit


def _follows_length(ids: Value) -> bool:
    return any(symbols_of(dim) & {"S", "T"} for dim in ids.shape)


def _last_row(ids: Value, weights: WeightLookup) -> int:
    """The row that a sequence of one token reads; each further token reads one row more."""
    (array,) = interpret(cone((ids,)), (), weights, {"B": 1, "S": 1, "T": 1, "P": 0})
    return int(array.max())
