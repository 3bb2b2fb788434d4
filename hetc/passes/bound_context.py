"""Bound the context: a table of learned positions has so many rows and no more."""

from __future__ import annotations

from hetc.ir.dims import evaluate, symbols_of
from hetc.ir.graph import Graph
from hetc.ir.interpret import WeightLookup, interpret
from hetc.ir.op import Value
from hetc.ir.ops.index import Embedding, Gather
from hetc.ir.ops.source import Weight
from hetc.passes.index_only import IndexOnly, cone

# Of row numbers, evaluated at once: what is longer is not tried, and so not allowed.
MOST_ROWS = 2**24


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
            limit = _longest(op.ids, rows, weights, limit)
    return limit


def _follows_length(ids: Value) -> bool:
    return any(symbols_of(dim) & {"S", "T"} for dim in ids.shape)


def _longest(ids: Value, rows: int, weights: WeightLookup, limit: int) -> int:
    """The longest sequence up to `limit` that reads no row past the last of `rows`.

    A table of positions is left after `rows` tokens or a few less; one of token types, whose
    row is always 0, is never left.
    """
    graph = cone((ids,))

    def fits(length: int) -> bool:
        (array,) = interpret(graph, (), weights, _sizes(length))
        return int(array.max()) < rows

    good, bad = 0, min(rows, limit)
    while fits(bad):
        good, bad = bad, min(2 * bad, limit)
        if good == limit or evaluate(ids.type.size, _sizes(bad)) > MOST_ROWS:
            return good
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def _sizes(length: int) -> dict[str, int]:
    return {"B": 1, "S": length, "T": length, "P": 0}
