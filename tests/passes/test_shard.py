"""The graphs of the sockets, run together, give what the whole graph gives."""

from __future__ import annotations

import pytest

from hetc.ir.graph import Graph
from hetc.ir.interpret import interpret
from hetc.ir.lockstep import interpret_lockstep
from hetc.ir.text import parse
from hetc.ir.types import Array
from hetc.ir.verify import verify
from hetc.passes.shard import Sharded, shard
from tests.passes.blocks import random_weights
from tests.passes.harness import assert_close, random_input

LAYER = """
graph @layer(%x: f32[B,T,32], %q: f32[32,32], %k: f32[16,32], %v: f32[16,32], %o: f32[32,32],
             %key: f32[B,2,P,8], %value: f32[B,2,P,8]) {
  %0 = linear %x, %q
  %1 = reshape %0 {shape = [B, T, 4, 8]}
  %2 = transpose %1 {perm = [0, 2, 1, 3]}
  %3 = linear %x, %k
  %4 = reshape %3 {shape = [B, T, 2, 8]}
  %5 = transpose %4 {perm = [0, 2, 1, 3]}
  %6 = kv_append %key, %5 {axis = 2}
  %7 = linear %x, %v
  %8 = reshape %7 {shape = [B, T, 2, 8]}
  %9 = transpose %8 {perm = [0, 2, 1, 3]}
  %10 = kv_append %value, %9 {axis = 2}
  %11 = attention %2, %6, %10 {causal}
  %12 = transpose %11 {perm = [0, 2, 1, 3]}
  %13 = reshape %12 {shape = [B, T, 32]}
  %14 = linear %13, %o
  %15 = add %x, %14
  return %15, %6, %10
}
graph @decode(%x: f32[B,T,32], %key: f32[B,2,P,8], %value: f32[B,2,P,8])
    -> (logits: f32[B,T,32], key.out: f32[B,2,P+T,8], value.out: f32[B,2,P+T,8]) {
  %q = weight {name = "q", type = f32[32,32]}
  %k = weight {name = "k", type = f32[16,32]}
  %v = weight {name = "v", type = f32[16,32]}
  %o = weight {name = "o", type = f32[32,32]}
  %0, %1, %2 = call @layer(%x, %q, %k, %v, %o, %key, %value)
  return %0, %1, %2
}
"""


@pytest.mark.parametrize("sockets", [1, 2, 4, 8])
def test_grouped_attention_in_a_called_layer(sockets: int) -> None:
    sharded = check(parse(LAYER), sockets)
    parts = {name: held.parts for name, held in sharded.weights.items()}
    heads, keys = min(sockets, 4), min(sockets, 2)
    assert parts == {"q": heads, "k": keys, "v": keys, "o": heads}
    assert {held.parts for held in sharded.states.values()} == {keys}


def check(graph: Graph, sockets: int, **options: int) -> Sharded:
    """Shard `graph`, run all sockets, and compare with `graph` itself; the sharded form."""
    sharded = shard(graph, sockets, **options)
    verify(sharded.graph)
    sizes = {"B": 2, "T": 3, "P": 5}
    inputs = [random_input(value, sizes, seed) for seed, value in enumerate(graph.inputs)]
    lookup = random_weights(graph)
    expected = interpret(graph, inputs, lookup, sizes)

    def held(name: str, array: Array, rank: int) -> Array:
        part = sharded.states.get(name)
        return part.of(array, rank, sockets) if part else array

    def weights_of(rank: int) -> dict[str, Array]:
        parts = sharded.weights.items()
        return {name: p.of(lookup(p.source), rank, sockets) for name, p in parts}

    results = interpret_lockstep(
        sharded.graph,
        [
            [held(v.name, x, rank) for v, x in zip(graph.inputs, inputs, strict=True)]
            for rank in range(sockets)
        ],
        [weights_of(rank).__getitem__ for rank in range(sockets)],
        sizes,
    )
    names = graph.output_names or [""] * len(graph.outputs)
    for rank, found in enumerate(results):
        for name, whole, part in zip(names, expected, found, strict=True):
            assert_close(held(name.removesuffix(".out"), whole, rank), part, 2e-5)
    return sharded
