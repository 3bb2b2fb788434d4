"""Whether the graph of the sockets of a group gives what the whole graph gives."""

from __future__ import annotations

from collections.abc import Sequence

from hetc.ir.graph import Graph
from hetc.ir.interpret import WeightLookup, interpret
from hetc.ir.lockstep import interpret_lockstep
from hetc.ir.text import parse, print_graph
from hetc.ir.types import Array
from hetc.ir.verify import verify
from hetc.passes.shard import Sharded, shard
from tests.passes.blocks import random_weights
from tests.passes.harness import assert_close, random_input

SIZES = {"B": 2, "S": 3, "T": 3, "P": 5, "R": 4}


def assert_same_on_sockets(graph: Graph, sockets: int, **options: int) -> Sharded:
    """Shard `graph`, run it on random inputs and weights, and compare; the sharded form."""
    sharded = shard(graph, sockets, **options)
    verify(sharded.graph)
    text = print_graph(sharded.graph)
    assert print_graph(parse(text)) == text
    inputs = [random_input(value, SIZES, seed) for seed, value in enumerate(graph.inputs)]
    weights = random_weights(graph)
    expected = interpret(graph, inputs, weights, SIZES)
    results = run_sockets(sharded, local_inputs(sharded, graph, inputs), weights, SIZES)
    for rank, found in enumerate(results):
        names = graph.output_names or ("",) * len(found)
        for name, whole, part in zip(names, expected, found, strict=True):
            assert_close(held(sharded, rank, name.removesuffix(".out"), whole), part, 2e-5)
    return sharded


def run_sockets(
    sharded: Sharded,
    inputs: Sequence[Sequence[Array]],
    weights: WeightLookup,
    sizes: dict[str, int],
) -> tuple[tuple[Array, ...], ...]:
    """The outputs of each socket, from the inputs of each and whole weights."""

    def lookup(rank: int) -> WeightLookup:
        def local(name: str) -> Array:
            part = sharded.weights[name]
            return part.of(weights(part.source), rank, sharded.sockets)

        return local

    lookups = [lookup(rank) for rank in range(sharded.sockets)]
    return interpret_lockstep(sharded.graph, inputs, lookups, sizes)


def local_inputs(sharded: Sharded, graph: Graph, inputs: Sequence[Array]) -> list[list[Array]]:
    """What each socket gets of whole inputs of `graph`."""
    named = list(zip(graph.inputs, inputs, strict=True))
    return [
        [held(sharded, rank, value.name, array) for value, array in named]
        for rank in range(sharded.sockets)
    ]


def held(sharded: Sharded, rank: int, name: str, whole: Array) -> Array:
    """What a socket has of an input or output: a part of a state, all of anything else."""
    part = sharded.states.get(name)
    return part.of(whole, rank, sharded.sockets) if part else whole
