"""Masks are proven to mean what they become, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetc.errors import StateError
from hetc.ir.graph import Graph, GraphBuilder
from hetc.ir.interpret import interpret
from hetc.ir.op import Value
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.binary import Add, And, Gt, Le, Mul, Or, Sub
from hetc.ir.ops.shape import Reshape, Slice
from hetc.ir.ops.source import Iota, Weight
from hetc.ir.types import BOOL, F32, Array, TensorType
from hetc.passes.prove_causal import Proof, prove_causal
from tests.golden import Golden
from tests.passes.blocks import B, S
from tests.passes.harness import cases, check, random_input

QUERY, KEY = Reshape(Iota(S).result, (S, 1)).result, Reshape(Iota(S).result, (1, S)).result


@pytest.mark.parametrize("case", cases("prove-causal"))
def test_golden(case: str, golden: Golden) -> None:
    check("prove-causal", case, golden)


def attention(mask: Value) -> Graph:
    builder = GraphBuilder("attend")
    q, k, v = (builder.input(name, TensorType(F32, (B, 2, S, 4))) for name in "qkv")
    builder.add(Attention(q, k, v, Reshape(mask, (1, 1, S, S)).result))
    return builder.finish([builder.ops[-1].result])


def table(array: Array) -> Graph:
    """The mask as a slice of a table of weights, as GPT-2 and GPT-Neo have it."""
    stored = Weight("table", TensorType(BOOL, array.shape)).result
    rows = Slice(stored, 0, 0, S).result
    return attention(Slice(rows, 1, 0, S).result)


def proven(graph: Graph, data: Array | None = None, max_context: int = 64) -> Attention:
    found = prove_causal(graph, lambda name: np.asarray(data), max_context).graph.ops[-1]
    assert isinstance(found, Attention)
    return found


def test_what_was_proven_is_counted() -> None:
    kinds = {"sliding window 8": 1, "causal": 2}
    assert Proof(attention(Le(KEY, QUERY).result), kinds).facts == (
        "2 attention masks proven causal",
        "1 attention mask proven sliding window 8",
    )


def band(size: int, window: int) -> Array:
    distance = np.arange(size)[:, None] - np.arange(size)[None, :]
    return (distance >= 0) & (distance < window)


@pytest.mark.parametrize(("window", "expected"), [(64, None), (40, 40), (63, 63), (1, 1)])
def test_a_window_in_a_table_is_found(window: int, expected: int | None) -> None:
    array = band(64, window)
    found = proven(table(array), array)
    assert (found.mask, found.window, found.causal) == (None, expected, True)


def test_one_hole_far_down_a_table_keeps_the_mask() -> None:
    array = band(64, 64)
    array[60, 3] = False
    assert proven(table(array), array).mask is not None


def test_one_glimpse_of_the_future_far_down_a_table_is_refused() -> None:
    array = band(64, 64)
    array[60, 61] = True
    with pytest.raises(StateError, match="position 60 sees position 61"):
        proven(table(array), array)


def test_a_window_that_no_number_in_the_graph_names_is_not_lost() -> None:
    # 25 * 25 + 6 positions: neither the product nor the sum stands in an op.
    edge = Sub(QUERY, Add(Mul(25, Mul(Iota(1, 1).result, 25).result).result, 6).result).result
    found = proven(attention(And(Le(KEY, QUERY).result, Gt(KEY, edge).result).result), None, 4096)
    assert found.window == 631 or found.mask is not None


@settings(max_examples=40)
@given(
    st.sampled_from([None, 1, 2, 3, 7]),
    st.sampled_from([None, 2, 5]),
    st.integers(1, 40),
    st.booleans(),
)
def test_the_result_is_the_mask(
    window: int | None, sees: int | None, length: int, own: bool
) -> None:
    seen = Le(KEY, QUERY).result
    if window is not None:
        near = Gt(KEY, Sub(QUERY, window).result).result
        # Some keys may be seen from everywhere after them, which is no window any more.
        anchors = near if sees is None else Or(near, Le(KEY, sees).result).result
        seen = And(seen, anchors).result
    graph = attention(seen)
    op = graph.ops[-1].replace(causal=own)
    graph = Graph(graph.name, graph.inputs, (*graph.ops[:-1], op), op.results)
    result = prove_causal(graph, lambda name: np.zeros(0), 128).graph
    found = result.ops[-1]
    assert isinstance(found, Attention)
    assert found.causal
    assert (found.mask is None) == (window is None or sees is None)
    inputs = [random_input(value, {"B": 2, "S": length}, i) for i, value in enumerate(graph.inputs)]
    before, after = (interpret(g, inputs) for g in (graph, result))
    np.testing.assert_allclose(after[0], before[0], atol=1e-6)
