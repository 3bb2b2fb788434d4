"""A small Llama as a graph of IR ops, with random weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hetc.ir.dims import symbol
from hetc.ir.graph import Graph, GraphBuilder
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
from hetc.ir.types import F32, I64, Array, DType, TensorType

B, S = symbol("B"), symbol("S")


@dataclass(frozen=True)
class Llama:
    """Sizes; `window` is that of every layer."""

    layers: int = 2
    hidden: int = 32
    heads: int = 4
    groups: int = 2
    width: int = 8
    inner: int = 48
    vocab: int = 61
    window: int | None = None
    dtype: DType = F32

    def weight(self, name: str, *shape: int) -> Value:
        return Weight(name, TensorType(self.dtype, shape)).result

    def linear(self, x: Value, name: str, outputs: int) -> Value:
        inputs = x.shape[-1]
        assert isinstance(inputs, int)
        return Linear(x, self.weight(name, outputs, inputs), loc=name).result

    def split(self, x: Value, heads: int) -> Value:
        shaped = Reshape(x, (B, S, heads, self.width)).result
        return Transpose(shaped, (0, 2, 1, 3)).result

    def graph(self) -> Graph:
        """forward(tokens[B,S]) -> logits[B,S,V]; the head is the embedding."""
        builder = GraphBuilder("llama")
        tokens = builder.input("tokens", TensorType(I64, (B, S)))
        table = self.weight("embed", self.vocab, self.hidden)
        x = Embedding(table, tokens).result
        cos, sin = self.rotary()
        for layer in range(self.layers):
            x = self.layer(x, f"layers.{layer}", cos, sin)
        normed = RMSNorm(x, self.weight("norm", self.hidden), 1e-5).result
        logits = Linear(normed, table, loc="head").result
        logits = logits if self.dtype is F32 else Cast(logits, F32).result
        builder.add(logits.op)  # type: ignore[arg-type]
        return builder.finish((logits,), ("logits",))

    def rotary(self) -> tuple[Value, Value]:
        positions = Reshape(Cast(Iota(S).result, F32).result, (S, 1)).result
        rates = Weight("rates", TensorType(F32, (1, self.width // 2))).result
        angles = Mul(positions, rates).result
        both = Concat((angles, angles), -1).result
        return Cast(Cos(both).result, self.dtype).result, Cast(Sin(both).result, self.dtype).result

    def layer(self, x: Value, name: str, cos: Value, sin: Value) -> Value:
        normed = RMSNorm(x, self.weight(f"{name}.norm1", self.hidden), 1e-5, loc=name).result
        q = self.split(self.linear(normed, f"{name}.q", self.heads * self.width), self.heads)
        k = self.split(self.linear(normed, f"{name}.k", self.groups * self.width), self.groups)
        v = self.split(self.linear(normed, f"{name}.v", self.groups * self.width), self.groups)
        q, k = (Rope(part, cos, sin, loc=name).result for part in (q, k))
        mixed = Attention(
            q, k, v, scale=self.width**-0.5, causal=True, window=self.window, loc=name
        ).result
        rows = Transpose(mixed, (0, 2, 1, 3)).result
        joined = Reshape(rows, (B, S, self.heads * self.width)).result
        x = Add(x, self.linear(joined, f"{name}.o", self.hidden)).result
        normed = RMSNorm(x, self.weight(f"{name}.norm2", self.hidden), 1e-5, loc=name).result
        gate = self.linear(normed, f"{name}.gate", self.inner)
        up = self.linear(normed, f"{name}.up", self.inner)
        return Add(x, self.linear(Gated(gate, up).result, f"{name}.down", self.hidden)).result

    def weights(self, graph: Graph, seed: int = 0) -> dict[str, Array]:
        """Random values for the graph's weights."""
        rng = np.random.default_rng(seed)
        found: dict[str, Array] = {}
        for op in graph.ops:
            if isinstance(op, Weight) and op.name not in found:
                data = rng.standard_normal(op.type.shape).astype(np.float32)  # type: ignore[arg-type]
                if op.name == "rates":
                    data = (
                        np.float32(10000)
                        ** -np.linspace(0, 1, self.width // 2, dtype=np.float32)[None]
                    )
                elif data.ndim == 1:
                    data = 1 + 0.1 * data
                else:
                    data = data / np.sqrt(data.shape[1])
                found[op.name] = data.astype(op.type.dtype.numpy)
        return found
