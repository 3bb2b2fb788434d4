"""The context ends where a table of positions does."""

from __future__ import annotations

import pytest

from hetc.ir.graph import Graph, GraphBuilder
from hetc.ir.op import Op, Value
from hetc.ir.ops.binary import Add, Minimum, Mul, Ne
from hetc.ir.ops.index import Embedding, Gather, Index, TakeAlong
from hetc.ir.ops.reduce import CumSum
from hetc.ir.ops.shape import Broadcast, Reshape
from hetc.ir.ops.source import Iota
from hetc.ir.types import I64, TensorType
from hetc.passes.bound_context import bound_context
from tests.passes.blocks import B, S, random_weights, weight

ROWS = 40
TABLE = weight("positions", ROWS, 4)
POSITIONS = Iota(S).result


def graph(op: Op) -> Graph:
    builder = GraphBuilder("forward")
    builder.input("tokens", TensorType(I64, (B, S)))
    builder.add(op)
    return builder.finish(op.results)


@pytest.mark.parametrize(
    ("ids", "longest"),
    [
        (POSITIONS, ROWS),
        (Add(POSITIONS, 2).result, ROWS - 2),
        (Mul(POSITIONS, 3).result, 14),
        (Mul(POSITIONS, 0).result, 1000),
        (Minimum(POSITIONS, ROWS - 1).result, 1000),
    ],
    ids=["each", "offset", "stride", "one type", "clamped"],
)
def test_longest(ids: Value, longest: int) -> None:
    reads = (
        Embedding(TABLE, ids),
        Gather(TABLE, ids),
        Gather(weight("turned", 4, ROWS), ids, 1),
        Gather(weight("turned", 4, ROWS), ids, -1),
        Index(weight("deep", 2, ROWS, 4), (ids,), (1,)),
    )
    for op in reads:
        found = graph(op)
        assert bound_context(found, random_weights(found), 1000) == longest, op


def test_a_shorter_limit_stays() -> None:
    found = graph(Embedding(TABLE, POSITIONS))
    assert bound_context(found, random_weights(found), 7) == 7


@pytest.mark.parametrize("padding", [0, 1, 7])
def test_rows_of_counted_tokens(padding: int) -> None:
    builder = GraphBuilder("forward")
    tokens = builder.input("tokens", TensorType(I64, (B, S)))
    counted = Add(CumSum(Ne(tokens, padding).result, 1).result, 1).result
    kinds = Broadcast(Reshape(weight("kinds", ROWS - 5), (1, ROWS - 5)).result, (B, ROWS - 5))
    for op, longest in (
        (Embedding(TABLE, counted), ROWS - 2),
        (TakeAlong(kinds.result, counted, 1), ROWS - 7),
    ):
        builder.add(op)
        found = builder.finish(op.results)
        assert bound_context(found, random_weights(found), 1000) == longest


def test_rows_picked_by_tokens_bound_nothing() -> None:
    builder = GraphBuilder("forward")
    tokens = builder.input("tokens", TensorType(I64, (B, S)))
    builder.add(Embedding(TABLE, tokens))
    found = builder.finish(builder.ops[-1].results)
    assert bound_context(found, random_weights(found), 1000) == 1000
