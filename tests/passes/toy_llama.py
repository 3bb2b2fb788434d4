"""A llama-like decoder built from IR ops, at any size; its weights have no data."""

from __future__ import annotations

from dataclasses import dataclass

from hetc.ir.dims import symbol
from hetc.ir.graph import Graph, GraphBuilder, Program
from hetc.ir.interpret import no_weights
from hetc.ir.op import Value
from hetc.ir.ops.activation import Gated
from hetc.ir.ops.attention import Attention, Rope
from hetc.ir.ops.binary import Add, Mul
from hetc.ir.ops.index import Embedding
from hetc.ir.ops.linear import Linear
from hetc.ir.ops.norm import RMSNorm
from hetc.ir.ops.shape import Concat, Reshape, Transpose
from hetc.ir.ops.source import Iota, Weight
from hetc.ir.ops.unary import Cast, Cos, Sin
from hetc.ir.types import BF16, F32, I64, DType, TensorType
from hetc.passes.synthesize_state import synthesize_state

B, S = symbol("B"), symbol("S")


@dataclass(frozen=True)
class Shape:
    """Sizes as in a Llama configuration file."""

    layers: int = 2
    hidden: int = 64
    heads: int = 4
    groups: int = 2
    inner: int = 128
    vocab: int = 256
    dtype: DType = F32

    @property
    def head(self) -> int:
        return self.hidden // self.heads


LLAMA_8B = Shape(32, 4096, 32, 8, 14336, 128256, BF16)
LLAMA_405B = Shape(126, 16384, 128, 8, 53248, 128256, BF16)


def forward(shape: Shape = Shape()) -> Graph:
    """forward(tokens i64[B,S]) -> logits[B,S,V]"""
    made = GraphBuilder("forward")
    tokens = made.input("tokens", TensorType(I64, (B, S)))

    def linear(x: Value, name: str, rows: int) -> Value:
        columns = x.shape[-1]
        weight = Weight(f"{name}.weight", TensorType(shape.dtype, (rows, columns)), loc=name)
        return made.add(Linear(x, weight.result, loc=name))

    def norm(x: Value, name: str) -> Value:
        weight = Weight(f"{name}.weight", TensorType(shape.dtype, (shape.hidden,)), loc=name)
        return made.add(RMSNorm(x, weight.result, loc=name))

    table = Weight("embed.weight", TensorType(shape.dtype, (shape.vocab, shape.hidden)))
    x = made.add(Embedding(table.result, tokens, loc="embed"))
    positions = Cast(Reshape(Iota(S).result, (S, 1)).result, F32).result
    inverse = Weight("rope.inverse", TensorType(F32, (1, shape.head // 2)))
    half = Mul(positions, inverse.result, loc="rope").result
    angles = Concat((half, half), 1, loc="rope").result
    cos = Cast(Cos(angles, loc="rope").result, shape.dtype, loc="rope").result
    sin = Cast(Sin(angles, loc="rope").result, shape.dtype, loc="rope").result

    def heads(y: Value, count: int, loc: str) -> Value:
        split = Reshape(y, (B, S, count, shape.head), loc=loc)
        return made.add(Transpose(split.result, (0, 2, 1, 3), loc=loc))

    for layer in range(shape.layers):
        at = f"layers.{layer}"
        attn = f"{at}.self_attn"
        y = norm(x, f"{at}.input_layernorm")
        q = heads(linear(y, f"{attn}.q_proj", shape.hidden), shape.heads, attn)
        k = heads(linear(y, f"{attn}.k_proj", shape.groups * shape.head), shape.groups, attn)
        v = heads(linear(y, f"{attn}.v_proj", shape.groups * shape.head), shape.groups, attn)
        q, k = (made.add(Rope(part, cos, sin, loc=attn)) for part in (q, k))
        mixed = Attention(q, k, v, scale=shape.head**-0.5, causal=True, loc=attn).result
        merged = Reshape(
            Transpose(mixed, (0, 2, 1, 3), loc=attn).result, (B, S, shape.hidden), loc=attn
        )
        x = made.add(Add(x, linear(merged.result, f"{attn}.o_proj", shape.hidden), loc=at))
        y = norm(x, f"{at}.post_attention_layernorm")
        gate = linear(y, f"{at}.mlp.gate_proj", shape.inner)
        up = linear(y, f"{at}.mlp.up_proj", shape.inner)
        inner = made.add(Gated(gate, up, loc=f"{at}.mlp"))
        x = made.add(Add(x, linear(inner, f"{at}.mlp.down_proj", shape.hidden), loc=at))
    logits = linear(norm(x, "norm"), "lm_head", shape.vocab)
    return made.finish([logits], ["logits"])


def program(shape: Shape = Shape(), max_context: int = 8192) -> Program:
    """Both halves, through the real state synthesis."""
    return synthesize_state(forward(shape), no_weights, max_context)
