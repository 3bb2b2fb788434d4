"""The graphs of the sockets, run together, give what the whole graph gives."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetc.ir.graph import Graph, GraphBuilder
from hetc.ir.op import Op, Value
from hetc.ir.ops.activation import Gated
from hetc.ir.ops.elementwise import Add, Mul, Relu
from hetc.ir.ops.linear import Linear
from hetc.ir.ops.norm import RMSNorm
from hetc.ir.ops.shape import Concat, Reshape, Slice, Split, Transpose, numbers
from hetc.ir.ops.source import Weight
from hetc.ir.text import parse, print_graph
from hetc.ir.types import F32, TensorType
from hetc.passes.canonicalize import canonicalize
from hetc.passes.inline import inline_calls
from hetc.passes.outline_layers import outline_layers
from hetc.passes.shard import Shard, Sharded, shard
from tests.golden import Golden
from tests.passes.blocks import B, Block, S, stack, weight
from tests.passes.harness import EXPECT, FOLDER, cases
from tests.passes.lockstep import assert_same_on_sockets
from tests.passes.soup import soups

SOCKETS = st.sampled_from([1, 2, 3, 4, 6, 8])


@pytest.mark.parametrize("case", cases("shard"))
def test_golden(case: str, golden: Golden) -> None:
    """The first line of a case is `# shard SOCKETS`; what comes out is the graph and its record."""
    file = f"shard/{case}.hetc-test"
    before = (FOLDER / file).read_text(encoding="utf-8").partition(EXPECT)[0]
    graph = parse(before)
    (sockets,) = re.findall(r"# shard (\d+)", before)
    sharded = assert_same_on_sockets(graph, int(sockets))
    golden(file, f"{before}{EXPECT}{print_graph(sharded.graph)}\n{record(sharded)}")


def record(sharded: Sharded) -> str:
    lines = [f"# {name}: {held}" for name, held in {**sharded.weights, **sharded.states}.items()]
    lines += [
        f"# {each.graph} {each.name}: {each.action} {each.parts}, {each.reason.text}"
        for each in sharded.decisions
    ]
    return "\n".join(lines)


BLOCKS = st.builds(
    Block,
    heads=st.sampled_from([2, 4, 6]),
    groups=st.sampled_from([1, 2]),
    window=st.sampled_from([None, 3]),
    sinks=st.booleans(),
    rope=st.sampled_from(["half", "interleaved", "none"]),
    norm=st.sampled_from(["rms", "layer"]),
    mlp=st.sampled_from(["gated", "plain"]),
)


@settings(max_examples=25)
@given(blocks=st.lists(BLOCKS, min_size=1, max_size=2), sockets=SOCKETS, lifted=st.booleans())
def test_layers_as_they_are_exported_and_lifted(
    blocks: list[Block], sockets: int, lifted: bool
) -> None:
    graph = stack(blocks)
    assert_same_on_sockets(canonicalize(graph) if lifted else graph, sockets)


@settings(max_examples=40)
@given(graph=soups(), sockets=SOCKETS)
def test_graphs_without_a_plan(graph: Graph, sockets: int) -> None:
    assert_same_on_sockets(canonicalize(graph), sockets)


@st.composite
def networks(draw: st.DrawFn) -> Graph:
    """Products between ops that cut, join and turn axes, f32[B,S,WIDTH] each."""
    builder = GraphBuilder("network")
    pool = [builder.input("x", TensorType(F32, (B, S, 24)))]

    def any_of(values: list[Value]) -> Value:
        return values[-1 - draw(st.integers(0, min(2, len(values) - 1)))]

    def step(x: Value, number: int) -> Op:
        width = x.shape[-1]
        assert isinstance(width, int)
        alike = [value for value in pool if value.shape == x.shape]
        name = f"w{draw(st.integers(0, 2)) if draw(st.booleans()) else number}"
        outputs = draw(st.sampled_from([12, 24, 48]))
        flat = f"{name}.{outputs}.{width}"
        bias = weight(f"{flat}.bias", outputs) if draw(st.booleans()) else None
        third, half = width // 3, width // 2
        heads = Reshape(x, (B, S, 3, third)).result
        made: list[Op] = [
            *[Linear(x, weight(flat, outputs, width), bias)] * 4,
            Gated(x, any_of(alike)),
            Add(x, any_of(alike)),
            Mul(x, any_of(alike)),
            Relu(x),
            RMSNorm(x, weight(f"n{width}", width)),
            Concat((x, any_of(alike)), 2),
            Slice(x, 2, 0, half),
            Slice(x, 2, half, width),
            Slice(x, 2, draw(st.integers(0, 1)), width, 2),
            Slice(x, 2, third, width),
            Split(x, 2, (third,) * 3),
            Split(x, 2, (third, width - third)),
            Reshape(Transpose(Transpose(heads, (0, 2, 1, 3)).result, (0, 2, 1, 3)).result, x.shape),
            Reshape(RMSNorm(heads).result, x.shape),
            Reshape(heads, (B * S, 3, third)),
        ]
        return draw(st.sampled_from(made))

    for number in range(draw(st.integers(2, 10))):
        made = step(any_of([value for value in pool if value.rank == 3]), number)
        builder.add(made)
        kept = [v for v in made.results if v.rank == 3 and v.shape[0] is B]
        pool += [value for value in kept if value.shape[-1] in (12, 24, 48)]
    return builder.finish(pool[-2:]).prune()


def test_a_partial_sum_added_to_itself() -> None:
    up, down = weight("up", 8, 4), weight("down", 4, 8)
    builder = GraphBuilder("twice")
    x = builder.input("x", TensorType(F32, (B, S, 4)))
    half = Linear(Linear(x, up).result, down, weight("bias", 4)).result
    sharded = assert_same_on_sockets(builder.finish([builder.add(Add(half, half))]), 2)
    assert [op.kind for op in sharded.graph.ops].count("all_reduce") == 1


@settings(max_examples=150)
@given(graph=networks(), sockets=SOCKETS)
def test_networks(graph: Graph, sockets: int) -> None:
    assert_same_on_sockets(graph, sockets)


@settings(max_examples=40)
@given(
    parts=st.sampled_from([1, 2, 3, 4, 6]),
    groups=st.integers(1, 3),
    inner=st.integers(1, 3),
    copies=st.integers(1, 3),
    axis=st.integers(0, 1),
)
def test_every_element_is_held_by_as_many_sockets(
    parts: int, groups: int, inner: int, copies: int, axis: int
) -> None:
    sockets, size = parts * copies, groups * parts * inner
    whole = np.moveaxis(np.arange(size * 2).reshape(size, 2), 0, axis)
    held = [Shard("w", axis, parts, groups).of(whole, rank, sockets) for rank in range(sockets)]
    assert {part.shape[axis] for part in held} == {size // parts}
    counts = np.bincount(np.concatenate([part.ravel() for part in held]), minlength=size * 2)
    assert (counts == copies).all()
    # Neighbouring sockets hold the same part, as collectives expect it.
    assert all((held[rank] == held[rank // copies * copies]).all() for rank in range(sockets))


def test_a_replicated_tensor_is_whole_everywhere() -> None:
    whole = np.arange(6)
    assert Shard("w").of(whole, 3, 4) is whole


def test_bytes_count_what_is_replicated() -> None:
    sharded = shard(stack([Block(heads=4, groups=2)] * 2), 4)
    held = {name: np.prod(s) * 4 for name, s in _local_shapes(sharded.graph).items()}
    assert sharded.local_bytes == sum(held.values())
    unique = {
        sharded.weights[name].source: n * sharded.weights[name].parts for name, n in held.items()
    }
    assert sharded.unique_bytes == sum(unique.values()) / 4
    assert sharded.unique_bytes < sharded.local_bytes


def test_a_called_layer_is_cut_as_the_same_layers_in_line() -> None:
    graph = canonicalize(stack([Block(heads=4, groups=2)] * 3))
    outlined = outline_layers(graph)
    assert len(list(outlined.subgraphs())) == 1
    inline, called = (assert_same_on_sockets(each, 4) for each in (graph, outlined))
    assert called.weights == inline.weights
    assert inline_calls(called.graph).ops
    assert len(list(called.graph.subgraphs())) == 1


def test_a_gather_may_cost_more_than_reading_the_weight() -> None:
    text = (FOLDER / "shard" / "full-width-norm.hetc-test").read_text(encoding="utf-8")
    graph = parse(text.partition(EXPECT)[0])
    nbytes = 16 * 16 * 4
    for limit, parts in ((0, 2), (nbytes, 2), (nbytes + 1, 1)):
        sharded = assert_same_on_sockets(graph, 2, replicate_below_bytes=limit)
        assert sharded.weights["q"].parts == parts
        assert sharded.weights["o"].parts == 2


def test_logits_are_gathered_whatever_that_costs() -> None:
    builder = GraphBuilder("head")
    x = builder.input("x", TensorType(F32, (B, S, 4)))
    graph = builder.finish([builder.add(Linear(x, weight("head", 8, 4)))], ["logits"])
    sharded = assert_same_on_sockets(graph, 4, replicate_below_bytes=10**9)
    assert sharded.weights["head"] == Shard("head", 0, 4)


def test_one_socket_has_everything() -> None:
    graph = canonicalize(stack([Block()]))
    sharded = shard(graph, 1)
    before, after = (Counter(op.kind for op in each.ops) for each in (graph, sharded.graph))
    assert before == after
    assert {held.axis for held in sharded.weights.values()} == {None}


def _local_shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for op in inline_calls(graph).ops:
        if isinstance(op, Weight):
            shapes[op.name] = numbers(op.type.shape)
    return shapes
