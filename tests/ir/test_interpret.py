"""The interpreter: binding of sizes, and errors that name what does not fit."""

from __future__ import annotations

import numpy as np
import pytest

from hetc.errors import BackendError, IRError
from hetc.ir.examples import example
from hetc.ir.interpret import interpret
from hetc.ir.text import parse
from hetc.ir.types import Array


def ones(*shape: int) -> Array:
    return np.ones(shape, np.float32)


def test_a_graph_with_weights_and_calls() -> None:
    graph = parse(
        """
        graph @layer(%x: f32[B,S,2], %w: f32[2,2]) { %0 = linear %x, %w return %0 }
        graph @f(%x: f32[B,S,2]) {
          %w = weight {name = "w", type = f32[2,2]}
          %0 = call @layer(%x, %w)
          %1 = call @layer(%0, %w)
          return %1, %x
        }"""
    )
    weights = {"w": np.array([[0, 1], [2, 0]], np.float32)}
    x = np.arange(6, dtype=np.float32).reshape(1, 3, 2)
    y, same = interpret(graph, [x], weights.__getitem__)
    assert np.array_equal(y, 2 * x)
    assert same is x


def test_sizes_come_from_inputs_and_bindings() -> None:
    text = "graph @f(%x: f32[B,S]) { %0 = full {value = 1.0, shape = [B+S, T]} return %0 }"
    (result,) = interpret(parse(text), [ones(2, 3)], bindings={"T": 4})
    assert result.shape == (5, 4)
    with pytest.raises(IRError, match="HETC-X002"):
        interpret(parse(text), [ones(2, 3)])


@pytest.mark.parametrize(
    ("inputs", "arrays"),
    [
        ("%x: f32[B,3]", [ones(2, 4)]),
        ("%x: f32[B,3]", [ones(2)]),
        ("%x: f32[B,3]", [ones(2, 3).astype(np.float64)]),
        ("%x: f32[B], %y: f32[B]", [ones(2), ones(3)]),
        ("%x: f32[B], %y: f32[2*B]", [ones(2), ones(5)]),
        ("%x: f32[2*B], %y: f32[B]", [ones(5), ones(2)]),
        ("%past: i64[], %x: f32[P]", [np.array(2), ones(3)]),
        ("%x: f32[P], %past: i64[]", [ones(3), np.array(2)]),
        ("%past: i64[], %x: f32[W4]", [np.array(9), ones(3)]),
        ("%x: f32[B]", []),
    ],
)
def test_an_input_that_does_not_fit(inputs: str, arrays: list[Array]) -> None:
    with pytest.raises(IRError, match="HETC-X021"):
        interpret(parse(f"graph @f({inputs}) {{ return }}"), arrays)


def test_past_is_the_size_p() -> None:
    graph = parse(
        """graph @f(%tokens: i64[B,T], %past: i64[], %near: f32[B,W4]) {
          %0 = iota {size = T, start = P}
          return %0
        }"""
    )
    inputs = [np.zeros((1, 2), np.int64), np.array(9), ones(1, 4)]
    assert interpret(graph, inputs)[0].tolist() == [9, 10]


def test_weights_must_be_there_and_fit() -> None:
    graph = example("weight")
    with pytest.raises(IRError, match=r"HETC-X020.*model.embed_tokens.weight"):
        interpret(graph, [])
    with pytest.raises(IRError) as caught:
        interpret(graph, [], lambda name: ones(2))
    assert caught.value.code == "HETC-X022"
    assert caught.value.expected == "bf16[49152,576]"


def test_values_that_an_op_cannot_take_name_the_op() -> None:
    text = "graph @f(%t: f32[V,2], %i: i64[S]) { %0 = embedding %t, %i @embed return %0 }"
    with pytest.raises(IRError) as caught:
        interpret(parse(text), [ones(3, 2), np.array([0, 3])])
    assert caught.value.code == "HETC-X023"
    assert caught.value.at == "embed"
    assert "out of bounds" in caught.value.what


def test_an_opaque_op_needs_what_runs_it() -> None:
    text = """graph @f(%x: f32[2]) {
      %0 = opaque [%x] {framework = "none", target = "a.b", arguments = "{}", types = [f32[2]]}
      return %0
    }"""
    with pytest.raises(BackendError, match=r"HETC-E001.*a\.b"):
        interpret(parse(text), [ones(2)])
