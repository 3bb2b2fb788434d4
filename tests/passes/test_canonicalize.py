"""Canonical graphs compute what the imported ones compute, and are made of known ops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from hetc.ir.graph import Graph
from hetc.ir.interpret import interpret
from hetc.ir.verify import Stage, verify
from hetc.passes.canonicalize import canonicalize
from tests.passes.blocks import Block, random_weights, stack
from tests.passes.harness import assert_same_results, random_input
from tests.passes.soup import soups


@settings(max_examples=150)
@given(soups())
def test_results_stay_the_same(graph: Graph) -> None:
    canonical = canonicalize(graph)
    verify(canonical, Stage.CANONICAL)
    inputs = [random_input(x, {"B": 2, "S": 3}, seed) for seed, x in enumerate(graph.inputs)]
    weights = random_weights(graph)
    expected, found = (interpret(g, inputs, weights) for g in (graph, canonical))
    for before, after in zip(expected, found, strict=True):
        # Casts to bf16 that a pattern looks through round once less.
        np.testing.assert_allclose(after, before, rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize(
    "block",
    [
        Block(),
        Block(heads=4, groups=2, window=3, softcap=5.0, mask="add"),
        Block(rope="interleaved", norm="layer", mlp="gelu"),
        Block(rope="halves", sinks=True),
        Block(rope="none", mask="attention"),
    ],
    ids=str,
)
def test_a_written_out_layer_is_lifted_whole(block: Block) -> None:
    graph = stack([block])
    canonical = canonicalize(graph)
    assert_same_results(graph, canonical)
    kinds = {op.kind for op in canonical.ops}
    assert {"attention", "linear", "add"} <= kinds
    assert ("rope" in kinds) == (block.rope != "none")
    assert ("layer_norm" in kinds) == (block.norm == "layer")
    assert ("gated" if block.mlp == "gated" else "gelu") in kinds
    # Nothing of what was lifted is left in pieces.
    pieces = {"matmul", "softmax", "rsqrt", "mean", "pow", "sigmoid", "erf", "tanh", "neg"}
    assert not kinds & pieces, kinds & pieces
