"""Bound the context: a table of learned positions has so many rows and no more."""

from __future__ import annotations

from hetc.ir.dims import DimLike, evaluate, symbols_of
from hetc.ir.graph import Graph
from hetc.ir.interpret import WeightLookup, interpret
from hetc.ir.op import Op, Value
from hetc.ir.ops.index import Embedding, Gather, Index
from hetc.passes.index_only import IndexOnly, cone

# Of row numbers, evaluated at once: what is longer is not tried, and so not allowed.
MOST_ROWS = 2**24


def bound_context(graph: Graph, weights: WeightLookup, limit: int) -> int:
    """The longest sequence up to `limit` for which every position finds its row in every table that
    is read by position."""
    index_only = IndexOnly()
    for op in graph.ops:
        for ids, rows in _reads(op):
            if isinstance(rows, int) and _follows_length(ids) and index_only(ids):
                limit = _longest(ids, rows, weights, limit)
    return limit


def _reads(op: Op) -> list[tuple[Value, DimLike]]:
    """Row numbers that `op` reads by, and how many rows there are."""
    if isinstance(op, Embedding):
        return [(op.ids, op.table.shape[0])]
    if isinstance(op, Gather):
        return [(op.ids, op.x.shape[op.axis])]
    if isinstance(op, Index):
        return [(ids, op.x.shape[axis]) for ids, axis in zip(op.ids, op.axes, strict=True)]
    return []


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
