"""Quantized matrices in a graph: what is stored, who reads it, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest

from hetc.ir.graph import Graph
from hetc.ir.interpret import interpret
from hetc.ir.ops.quant import Dequantize
from hetc.ir.ops.source import Weight
from hetc.ir.text import parse
from hetc.ir.types import Array
from hetc.passes.cost import phase_costs
from hetc.passes.quality import quality
from hetc.passes.quantize_weights import Form, Quantized, Scheme, quantize_weights
from hetc.passes.whole_weights import whole_weights

TEXT = """
graph @model(%tokens: i64[B,S]) -> (bf16[B,S,64]) {
  %0 = weight {name = "embed", type = bf16[64,32]}
  %1 = embedding %0, %tokens @embed
  %2 = weight {name = "layers.0.up.weight", type = bf16[96,32]}
  %3 = linear %1, %2 @layers.0.up
  %4 = weight {name = "layers.0.odd.weight", type = bf16[33,96]}
  %5 = linear %3, %4 @layers.0.odd
  %6 = weight {name = "layers.0.back.weight", type = bf16[32,33]}
  %7 = linear %5, %6 @layers.0.back
  %8 = linear %7, %0 @lm_head
  return %8
}
"""
RNG = np.random.default_rng(5)
SHAPES = {
    "embed": (64, 32),
    "layers.0.up.weight": (96, 32),
    "layers.0.odd.weight": (33, 96),
    "layers.0.back.weight": (32, 33),
}
DATA = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def quantized(form: Form, *tensors: tuple[str, Form]) -> Quantized:
    return quantize_weights(parse(TEXT), Scheme(form, tensors), DATA.__getitem__)


def lookup(made: Quantized, graph: Graph) -> dict[str, Array]:
    """The weights that a graph reads, in its types."""
    found = {}
    for op in graph.ops:
        if isinstance(op, Weight):
            data = made.weights[op.name].load() if op.name in made.weights else DATA[op.name]
            found[op.name] = data.astype(op.type.dtype.numpy)
            assert found[op.name].shape == op.type.shape
    return found


def test_every_matrix_but_one_without_groups_is_stored_in_integers() -> None:
    made = quantized("int8")
    assert made.forms == {"int8": 3}
    assert set(made.weights) == {
        f"{name}.{part}"
        for name in ("embed", "layers.0.up.weight", "layers.0.odd.weight")
        for part in ("int8", "scale")
    }
    (left,) = made.left
    assert (left.code, left.at) == ("HETC-P040", "layers.0.back.weight")
    assert left.text == "not quantized: inner axis of 33, no multiple of 16"


def test_int4_keeps_the_output_in_int8() -> None:
    made = quantized("int4")
    assert made.forms == {"int4": 2, "int8": 1}
    assert made.weights["layers.0.up.weight.int4"].shape == (96, 16)
    assert made.weights["embed.int8"].shape == (64, 32)


def test_the_last_glob_that_fits_wins() -> None:
    made = quantized("int8", ("layers.*", "int4"), ("*.odd.weight", "none"))
    assert made.forms == {"int4": 1, "int8": 1}
    assert quantized("none", ("embed", "int4")).forms == {"int4": 1}


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_the_graph_computes_with_the_dequantized_matrices(form: Form) -> None:
    """As the graph before does with matrices that are dequantized by hand."""
    made = quantized(form)
    graph = made.graph
    weights = lookup(made, graph)
    tokens = RNG.integers(0, 64, (2, 5))
    (found,) = interpret(graph, (tokens,), weights.__getitem__)
    by_hand = dict(DATA)
    for op in graph.ops:
        if isinstance(op, Dequantize) and op.result.shape == SHAPES.get(_name(op)):
            steps = weights.get(f"{_name(op)}.int8")
            if steps is None:
                packed = weights[f"{_name(op)}.int4"]
                steps = np.stack([packed & 15, packed >> 4], -1).reshape(SHAPES[_name(op)])
            scale = weights[f"{_name(op)}.scale"].astype(np.float32).repeat(op.group, -1)
            wide = steps.astype(np.float32) * scale
            if op.shift is not None:
                wide += weights[f"{_name(op)}.shift"].astype(np.float32).repeat(op.group, -1)
            by_hand[_name(op)] = wide
    (expected,) = interpret(
        parse(TEXT),
        (tokens,),
        lambda name: by_hand[name].astype(graph.outputs[0].dtype.numpy),
    )
    np.testing.assert_array_equal(found.astype(np.float32), expected.astype(np.float32))


def _name(op: Dequantize) -> str:
    """The matrix that is dequantized."""
    value = op.x
    while not isinstance(value.op, Weight):
        assert value.op is not None
        value = value.op.operands[0]
    return value.op.name.rpartition(".")[0]


@pytest.mark.parametrize(("form", "element"), [("int8", 1.0), ("int4", 0.5)])
def test_a_step_reads_what_is_stored(form: Form, element: float) -> None:
    """Steps and scales once, by the product that multiplies with them."""
    costs = phase_costs(quantized(form, ("embed", "none")).graph, "prefill")
    read = {cost.name: cost.work.at({"B": 1, "S": 4}).weight_bytes for cost in costs}
    numbers = 2 if form == "int8" else 4
    assert read["layers.0.up"] == 96 * 32 * element + 96 * numbers
    assert sum(read.values()) == sum(
        read[name] for name in ("embed", "layers.0.up", "layers.0.odd", "layers.0.back", "lm_head")
    )


def test_whole_weights_give_the_same_numbers() -> None:
    made = quantized("int4")
    weights = lookup(made, made.graph)
    tokens = RNG.integers(0, 64, (1, 7))
    graph, whole = whole_weights(made.graph, weights.__getitem__)
    matrices = [op for op in graph.ops if isinstance(op, Dequantize)]
    # What is left dequantizes rows that tokens pick.
    assert [op.loc for op in matrices] == ["embed"]
    (found,) = interpret(graph, (tokens,), whole)
    (expected,) = interpret(made.graph, (tokens,), weights.__getitem__)
    np.testing.assert_array_equal(found.astype(np.float32), expected.astype(np.float32))


def test_quality_is_measured_against_the_graph_before() -> None:
    before, tokens = parse(TEXT), RNG.integers(0, 64, (1, 20))
    made = quantized("int4")
    weights = lookup(made, made.graph).__getitem__
    same = quality(before, DATA.__getitem__, before, DATA.__getitem__, tokens)
    assert (same.tokens, same.kl, same.same_top) == (20, 0.0, 1.0)
    found = quality(before, DATA.__getitem__, made.graph, weights, tokens)
    assert found.kl > 0
    finer = quantized("int8")
    better = lookup(finer, finer.graph).__getitem__
    assert quality(before, DATA.__getitem__, finer.graph, better, tokens).kl < found.kl
