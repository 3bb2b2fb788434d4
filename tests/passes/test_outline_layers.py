"""Repeated layers become one called graph."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetc.ir.compare import first_difference
from hetc.ir.graph import Graph, GraphBuilder, Program
from hetc.ir.interpret import interpret
from hetc.ir.op import Value
from hetc.ir.ops.binary import Add
from hetc.ir.ops.linear import Linear
from hetc.ir.ops.unary import Relu
from hetc.ir.text import parse, print_graph
from hetc.ir.types import F32, TensorType
from hetc.ir.verify import verify
from hetc.passes.canonicalize import canonicalize
from hetc.passes.inline import inline_calls
from hetc.passes.manager import PassOptions, run_passes
from hetc.passes.outline_layers import Outline, outline
from hetc.passes.registry import load_pipeline
from tests.golden import Golden
from tests.passes.blocks import Block, random_weights, stack, weight
from tests.passes.harness import assert_same_results, cases, check, random_input

DENSE = Block()
WINDOWED = Block(window=3)
OTHER = Block(softcap=2.0, norm="layer", mlp="gelu")


@pytest.mark.parametrize("case", cases("outline-layers"))
def test_golden(case: str, golden: Golden) -> None:
    check("outline-layers", case, golden)


def proven(blocks: list[Block]) -> Graph:
    """The stack with canonical ops, windows as attributes."""
    graph = stack(blocks)
    options = PassOptions(random_weights(graph), max_context=64)
    found = run_passes(load_pipeline("canonicalize,prove-causal"), graph, options)
    assert isinstance(found, Graph)
    return found


def shape(found: Outline) -> list[tuple[int, int]]:
    """For each repeat how often it is called, and how many attentions it holds."""
    repeats = []
    for repeat in found.repeats:
        attentions = sum(op.kind == "attention" for op in repeat.callee.ops)
        repeats.append((repeat.times, attentions))
    return repeats


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([DENSE] * 2, [(2, 1)]),
        ([DENSE] * 12, [(12, 1)]),
        ([WINDOWED, DENSE] * 3, [(3, 2)]),
        ([WINDOWED, DENSE] * 3 + [WINDOWED], [(3, 2)]),
        (([WINDOWED] * 5 + [DENSE]) * 3, [(3, 6)]),
        ([OTHER] * 2 + [DENSE] * 4, [(2, 1), (4, 1)]),
        ([DENSE, OTHER], []),
        ([OTHER] + [DENSE] * 3 + [OTHER], [(3, 1)]),
    ],
    ids=["2", "12", "alternating", "odd", "five to one", "two kinds", "none", "inside"],
)
def test_layers_are_found_by_structure(
    layers: list[Block], expected: list[tuple[int, int]]
) -> None:
    graph = proven(layers)
    found = outline(graph)
    assert shape(found) == expected
    verify(found.graph)
    assert_same_results(graph, found.graph)
    assert parse(print_graph(found.graph)).outputs[0].type == graph.outputs[0].type


def test_a_layer_takes_the_stream_from_the_layer_before() -> None:
    (repeat,) = outline(proven([DENSE] * 3)).repeats
    assert repeat.carried == ((0, 0),)
    names = [value.name for value in repeat.callee.inputs]
    assert {names[param] for param in repeat.own} == {
        "norm1",
        "norm2",
        *(f"attn.{part}" for part in "qkvo"),
        *(f"mlp.{part}" for part in ("up", "gate", "down")),
    }
    assert {str(repeat.callee.inputs[param].type) for param in repeat.shared} == {"f32[S,4]"}


layers = st.lists(st.sampled_from([DENSE, WINDOWED, OTHER]), min_size=1, max_size=6)


@settings(max_examples=25)
@given(layers)
def test_inlining_is_the_inverse(blocks: list[Block]) -> None:
    forward = stack(blocks)
    options = PassOptions(random_weights(forward), max_context=64)
    program = run_passes(load_pipeline("default")[:-1], forward, options)
    assert isinstance(program, Program)
    for graph in (program.forward, program.prefill, program.decode):
        outlined = outline(graph).graph
        verify(outlined)
        inlined = inline_calls(outlined)
        verify(inlined)
        described = [Counter((op.kind, op.loc) for op in g.ops) for g in (graph, inlined)]
        assert described[0] == described[1]
        # What is shared was moved to the front once, and stays there.
        again = inline_calls(outline(inlined).graph)
        assert first_difference(inlined, again, locations=True) is None
        sizes = {"B": 1, "S": 5, "P": 4, "T": 2, "W2": 2}
        inputs = [
            np.array(4) if value.name == "past" else random_input(value, sizes, seed)
            for seed, value in enumerate(graph.inputs)
        ]
        results = [interpret(g, inputs, options.weights, sizes) for g in (graph, outlined, inlined)]
        for expected, *found in zip(*results, strict=True):
            for array in found:
                np.testing.assert_array_equal(array, expected)


def chain(wirings: str, name: str = "layers.{}.up") -> Graph:
    """A layer for each letter: `x` adds its input to its product, `y` the product to itself."""
    builder = GraphBuilder("chain")
    x: Value = builder.input("x", TensorType(F32, (4, 4)))
    for layer, wiring in enumerate(wirings):
        product = Linear(x, weight(name.format(layer), 4, 4)).result
        x = builder.add(Add(Relu(product).result, x if wiring == "x" else product))
    return builder.finish([x])


def test_layers_that_are_wired_in_another_way_are_others() -> None:
    assert [repeat.times for repeat in outline(chain("xxxyyxx")).repeats] == [3, 2, 2]
    assert not outline(chain("xy")).repeats


def test_a_weight_that_all_layers_share_is_shared() -> None:
    (repeat,) = outline(chain("xxx", name="tied")).repeats
    assert (repeat.shared, repeat.own) == ((), (1,)), "one op a layer reads it"
    (repeat,) = outline(inline_calls(canonicalize(chain("xxx", name="tied")))).repeats
    assert (repeat.shared, repeat.own) == ((1,), ())


def test_an_outlined_graph_can_be_outlined_again() -> None:
    once = outline(chain("xxxyyxx")).graph
    twice = outline(once)
    assert not twice.repeats
    assert first_difference(once, twice.graph, locations=True) is None
