"""PyTorch's own kernels, as graphs name them that went through autograd's dispatcher."""

from __future__ import annotations

import math

from hetc.frontends.torch_export.context import Context
from hetc.frontends.torch_export.registry import aten
from hetc.ir.dims import Dim, DimLike
from hetc.ir.op import Value
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.elementwise import Add, Le, Mul, Where
from hetc.ir.ops.linear import MatMul
from hetc.ir.ops.reduce import LogSumExp
from hetc.ir.ops.shape import Broadcast, Transpose
from hetc.ir.ops.source import Iota
from hetc.ir.types import F32


@aten("_scaled_dot_product_flash_attention_for_cpu.default")
def flash_attention_for_cpu(
    ctx: Context,
    q: Value,
    k: Value,
    v: Value,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    attn_mask: Value | None = None,
    scale: float | None = None,
) -> object:
    """Attention [B,H,S,D], and the logarithm of the sum of each query's exponentials [B,H,S]."""
    width = q.shape[-1]
    if dropout_p or isinstance(width, Dim):
        return NotImplemented
    if is_causal and q.shape[-2] != k.shape[-2]:
        # PyTorch aligns the first query with the first key, hetc the last with the last.
        return NotImplemented
    factor = 1 / math.sqrt(width) if scale is None else scale
    mask = attn_mask
    if mask is not None and mask.dtype.is_float:
        mask = ctx.cast(mask, q.dtype)
    found = ctx.op(Attention, q, k, v, mask, scale=factor, causal=is_causal)
    keys = ctx.op(Transpose, ctx.cast(_for_each_head(ctx, k, q.shape[1]), F32), perm=(0, 1, 3, 2))
    scores = ctx.op(Mul, ctx.op(MatMul, ctx.cast(q, F32), keys), factor)
    if mask is not None and mask.dtype.is_float:
        scores = ctx.op(Add, scores, ctx.cast(mask, F32))
    elif mask is not None:
        scores = ctx.op(Where, mask, scores, -math.inf)
    if is_causal:
        row, key = (ctx.op(Iota, x.shape[-2]) for x in (q, k))
        seen = ctx.op(Le, key, ctx.reshape(row, (q.shape[-2], 1)))
        scores = ctx.op(Where, seen, scores, -math.inf)
    return found, ctx.op(LogSumExp, scores, axes=(3,))


def _for_each_head(ctx: Context, x: Value, heads: DimLike) -> Value:
    """Heads of keys [B,G,S,D] repeated for the queries that share them: [B,H,S,D]."""
    batch, groups, *rest = x.shape
    if groups == heads or isinstance(heads, Dim) or isinstance(groups, Dim):
        return x
    apart = ctx.reshape(x, (batch, groups, 1, *rest))
    repeated = ctx.op(Broadcast, apart, (batch, groups, heads // groups, *rest))
    return ctx.reshape(repeated, (batch, heads, *rest))
