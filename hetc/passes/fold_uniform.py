"""Fold uniform positions: running sums over positions that are the same number everywhere become
that number.

Models count packed sequences with a running sum over jumps in the positions; without packing there
are none and the sum is zero everywhere. Known to be zero, it no longer hides that a mask is
computed position by position.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hetc.ir.dims import symbols_of
from hetc.ir.graph import Graph, rebuild
from hetc.ir.interpret import WeightLookup, interpret
from hetc.ir.op import Op, Value
from hetc.ir.ops.index import Gather, Index
from hetc.ir.ops.reduce import CumSum
from hetc.ir.ops.source import Full
from hetc.passes.index_only import IndexOnly, cone
from hetc.passes.simplify import splat

LONGEST = 1 << 20


def fold_uniform(graph: Graph, weights: WeightLookup, max_context: int) -> Graph:
    """Replace index-only running sums that are uniform at every length up to `max_context`, and
    reads of uniform values."""
    index_only = IndexOnly()

    def step(op: Op) -> Op | None:
        if isinstance(op, (Index, Gather)) and splat(op.x) is not None:
            return _full(op, splat(op.x))
        if isinstance(op, CumSum) and index_only(op.result) and _one_length(op.result):
            return _full(op, _uniform(op.result, weights, max_context))
        return None

    return rebuild(graph, step)


def _full(op: Op, number: float | None) -> Op | None:
    if number is None:
        return None
    result = op.results[0]
    exact = (
        number
        if result.dtype.is_float
        else bool(number)
        if result.dtype.kind == "bool"
        else int(number)
    )
    return Full(exact, result.shape, result.dtype, loc=op.loc)


def _one_length(value: Value) -> bool:
    return sum("S" in symbols_of(dim) for dim in value.shape) == 1


def _uniform(value: Value, weights: WeightLookup, max_context: int) -> float | None:
    # The longest length shows every position; a short one shows that the length itself does not
    # matter.
    graph, found = cone((value,)), set()
    for length in (min(max_context, LONGEST), 5):
        bindings: Mapping[str, int] = {"B": 1, "S": length}
        (array,) = interpret(graph, (), weights, bindings)
        found.update(np.unique(array)[:2].tolist())
    return float(found.pop()) if len(found) == 1 else None
