"""A decoder that carries its cache keeps it, if the rest of it is causal."""

from __future__ import annotations

import pytest

from hetc.errors import StateError
from hetc.ir.dims import symbol
from hetc.ir.graph import Graph, GraphBuilder
from hetc.ir.model import CarriedState
from hetc.ir.op import Value
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.binary import Add, Sub
from hetc.ir.ops.index import Embedding
from hetc.ir.ops.linear import Linear
from hetc.ir.ops.reduce import Mean
from hetc.ir.ops.shape import Concat, Reshape, Slice, Transpose
from hetc.ir.types import F32, I64, TensorType
from hetc.passes.adopt_state import adopt_state
from hetc.passes.self_check import self_check
from tests.passes.blocks import random_weights, weight

B, P, T = symbol("B"), symbol("P"), symbol("T")
WIDTH, VOCABULARY = 4, 9
CARRIED = (
    CarriedState("past.0.key", "present.0.key"),
    CarriedState("past.0.value", "present.0.value"),
)


def decoder(*, centred: bool = False, shifted: bool = False) -> Graph:
    """tokens[B,T] and a cache in, logits and the cache out; `centred` mixes the new tokens, and
    `shifted` keeps all of the cache but its first row."""
    builder = GraphBuilder("decoder")
    tokens = builder.input("tokens", TensorType(I64, (B, T)))
    row = TensorType(F32, (B, 1, P, WIDTH))
    pasts = [builder.input(item.past, row) for item in CARRIED]
    x = Embedding(weight("embed", VOCABULARY, WIDTH), tokens).result
    if centred:
        x = Sub(x, Mean(x, (1,), True, loc="layers.0.norm").result, loc="layers.0.norm").result
    q, k, v = (heads(x, name) for name in "qkv")
    presents = [Concat((past, new), 2).result for past, new in zip(pasts, (k, v), strict=True)]
    if shifted:
        presents = [Slice(present, 2, 1, P + T).result for present in presents]
    keys, values = presents
    mixed = Attention(q, keys, values, scale=0.5, causal=True, loc="layers.0.attn").result
    flat = Reshape(Transpose(mixed, (0, 2, 1, 3)).result, (B, T, WIDTH)).result
    logits = Linear(Add(x, flat).result, weight("embed", VOCABULARY, WIDTH)).result
    for value in (logits, *presents):
        if value.op is not None:
            builder.add(value.op)
    return builder.finish([logits, *presents], ["logits", *(item.present for item in CARRIED)])


def heads(x: Value, name: str) -> Value:
    flat = Linear(x, weight(name, WIDTH, WIDTH)).result
    return Transpose(Reshape(flat, (B, T, 1, WIDTH)).result, (0, 2, 1, 3)).result


def test_prefill_and_decode_are_forward() -> None:
    graph = decoder()
    program = adopt_state(graph, CARRIED, random_weights(graph), 64)
    assert [spec.name for spec in program.states] == ["layer0.key", "layer0.value"]
    assert {str(spec.type) for spec in program.states} == {"f32[B,1,P,4]"}
    assert self_check(program, random_weights(graph), VOCABULARY).max_abs_error < 1e-5


@pytest.mark.parametrize(
    ("graph", "code"),
    [(decoder(centred=True), "HETC-S014"), (decoder(shifted=True), "HETC-S030")],
    ids=["mean over the new tokens", "cache that loses a row"],
)
def test_what_is_no_cache_of_a_causal_model_is_refused(graph: Graph, code: str) -> None:
    with pytest.raises(StateError) as caught:
        adopt_state(graph, CARRIED, random_weights(graph), 64)
    assert caught.value.code == code
