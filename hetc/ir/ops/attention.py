"""Attention and rotary position embedding."""

from __future__ import annotations

import numpy as np

from hetc.ir.dims import Dim, DimLike, symbol
from hetc.ir.op import Cost, Op, Value, op
from hetc.ir.ops.elementwise_base import as_f32, broadcast_shapes
from hetc.ir.ops.reduce import softmax
from hetc.ir.types import BOOL, Array, TensorType


@op("rope")
class Rope(Op):
    """Rotary position embedding (Su et al. 2021, eq. 34) of the first R elements of the last axis.

    `cos` and `sin` end in R and broadcast against `x[..., :R]`. Pairs are (i, i + R/2), or
    (2i, 2i+1) with `interleaved`.
    """

    x: Value
    cos: Value
    sin: Value
    interleaved: bool = False

    def infer(self) -> TensorType:
        self.require(self.cos.shape == self.sin.shape, "cos and sin must have one shape")
        self.require(self.x.rank > 0 < self.cos.rank, "x and cos need an axis to rotate")
        width, whole = self.cos.shape[-1], self.x.shape[-1]
        if isinstance(width, Dim) or isinstance(whole, Dim) or width > whole or width % 2:
            raise self.misfit("cos must end in an even number within x's last axis")
        rotated = (*self.x.shape[:-1], self.cos.shape[-1])
        self.require(
            broadcast_shapes(rotated, self.cos.shape) == rotated, "cos must broadcast against x"
        )
        return self.x.type

    def cost(self) -> Cost:
        base = super().cost()
        return Cost(3 * self.x.size, base.bytes_read, base.bytes_written)

    def semantics(self, x: Array, cos: Array, sin: Array) -> Array:
        width = cos.shape[-1]
        part, rest = as_f32(x[..., :width]), x[..., width:]
        if self.interleaved:
            turned = np.stack([-part[..., 1::2], part[..., ::2]], axis=-1).reshape(part.shape)
        else:
            turned = np.concatenate([-part[..., width // 2 :], part[..., : width // 2]], axis=-1)
        rotated = (part * as_f32(cos) + turned * as_f32(sin)).astype(x.dtype)
        return np.concatenate([rotated, rest], axis=-1)


@op("attention")
class Attention(Op):
    """softmax(softcap(q @ k^T * scale) + bias) @ v, with what language models add to it.

    `q [B, H, T, D]`, `k [B, G, L, D]`, `v [B, G, L, E]` -> `[B, H, T, E]`; H is a multiple of G
    (grouped queries). The last query stands at the last key: query i is at key index L-T+i. `mask`
    broadcasts to `[B, H, T, L]`: bool (true = visible) or an addend to the scores. `sinks [H]` is
    one more logit a head that takes weight and gives no value (gpt-oss). `slopes [H]` is ALiBi:
    slope times (key index - query index) is added. `causal` hides later keys, `window` keys that
    are `window` or more behind, `chunk` keys of another chunk (index // chunk; keys must start at
    position 0). A query that sees nothing gets zeros.
    """

    q: Value
    k: Value
    v: Value
    mask: Value | None = None
    sinks: Value | None = None
    slopes: Value | None = None
    scale: float = 1.0
    softcap: float | None = None
    causal: bool = False
    window: int | None = None
    chunk: int | None = None

    def infer(self) -> TensorType:
        self.require(self.q.rank == self.k.rank == self.v.rank == 4, "q, k and v have four axes")
        batch, heads, rows, width = self.q.shape
        _, groups, length, _ = self.k.shape
        one_dtype = self.q.dtype is self.k.dtype is self.v.dtype and self.q.dtype.is_float
        self.require(one_dtype, "q, k and v must have one dtype, of floats")
        self.require(self.k.shape[-1] == width, "q and k differ in width")
        self.require(
            self.k.shape[:3] == self.v.shape[:3], "k and v differ in batch, heads or length"
        )
        self.require(batch == self.k.shape[0], "q and k differ in batch")
        grouped = isinstance(heads, int) and isinstance(groups, int) and heads % groups == 0
        self.require(grouped, "query heads must be a multiple of key heads")
        if self.mask is not None:
            scores = (batch, heads, rows, length)
            self.require(self.mask.dtype is BOOL or self.mask.dtype.is_float, "no such mask")
            self.require(
                broadcast_shapes(self.mask.shape, scores) == scores,
                "the mask must broadcast to [B,H,T,L]",
            )
        for per_head in (self.sinks, self.slopes):
            if per_head is not None:
                self.require(per_head.shape == (heads,), "sinks and slopes are [H]")
        return TensorType(self.q.dtype, (batch, heads, rows, self.v.shape[-1]))

    def cost(self) -> Cost:
        base = super().cost()
        batch, heads, rows, width = self.q.shape
        length = self.k.shape[2]
        doubled_pairs: DimLike = 2 * rows * length
        span = self.window or self.chunk
        if span is not None and length == rows:
            # `W<n>` is min(P, n), and min(S, n) in prefill: see hetc.ir.dims.evaluate.
            doubled_pairs = 2 * rows * symbol(f"W{span}")
        elif self.causal:
            doubled_pairs = doubled_pairs - rows * rows + rows
        per_pair = width + self.v.shape[-1] + 6
        return Cost(batch * heads * doubled_pairs * per_pair, base.bytes_read, base.bytes_written)

    def semantics(self, q: Array, k: Array, v: Array, *extra: Array) -> Array:
        given = iter(extra)
        mask = next(given) if self.mask is not None else None
        sinks = next(given) if self.sinks is not None else None
        slopes = next(given) if self.slopes is not None else None
        repeat = q.shape[1] // k.shape[1]
        keys, values = (np.repeat(as_f32(x), repeat, axis=1) for x in (k, v))
        scores = as_f32(q) @ keys.swapaxes(-1, -2) * keys.dtype.type(self.scale)
        if self.softcap is not None:
            scores = np.tanh(scores / self.softcap) * scores.dtype.type(self.softcap)
        rows, length = scores.shape[-2:]
        query = np.arange(rows)[:, None] + (length - rows)
        key = np.arange(length)[None, :]
        if slopes is not None:
            scores = scores + as_f32(slopes)[:, None, None] * (key - query).astype(scores.dtype)
        if mask is not None:
            scores = (
                np.where(mask, scores, -np.inf)
                if mask.dtype == BOOL.numpy
                else scores + as_f32(mask)
            )
        visible = np.ones((rows, length), bool)
        if self.causal:
            visible &= key <= query
        if self.window is not None:
            visible &= query - key < self.window
        if self.chunk is not None:
            visible &= query // self.chunk == key // self.chunk
        scores = np.where(visible, scores, -np.inf).astype(scores.dtype)
        if sinks is not None:
            sink = np.broadcast_to(as_f32(sinks)[:, None, None], (*scores.shape[:-1], 1))
            weights = softmax(np.concatenate([scores, sink], axis=-1), -1)[..., :-1]
        else:
            weights = softmax(scores, -1)
        result: Array = (weights @ values).astype(q.dtype)
        return result
