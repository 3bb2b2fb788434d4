"""ATen's matrix products, attention and normalisations over the last axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hetc.frontends.torch_export.context import Context
from hetc.frontends.torch_export.registry import aten
from hetc.frontends.torch_export.table_elementwise import arithmetic
from hetc.ir.dims import DimLike
from hetc.ir.op import Value
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.elementwise import Add, Cast, Mul
from hetc.ir.ops.linear import Linear, MatMul
from hetc.ir.ops.norm import LayerNorm, RMSNorm
from hetc.ir.ops.shape import Transpose
from hetc.ir.ops.source import Full, Weight
from hetc.ir.types import BOOL, DType


@aten("linear.default")
def linear(ctx: Context, x: Value, weight: Value, bias: Value | None = None) -> object:
    return ctx.op(Linear, x, weight, bias) if weight.rank == 2 else NotImplemented


def _from_weight(x: Value) -> bool:
    """Whether `x` is a parameter, perhaps cast or transposed."""
    while isinstance(x.op, Transpose | Cast):
        x = x.op.x
    return isinstance(x.op, Weight)


def _rows_first(ctx: Context, weight: Value) -> Value:
    """A weight [K, N] as [N, K]."""
    if isinstance(weight.op, Transpose):
        return weight.op.x
    return ctx.op(Transpose, weight, (1, 0))


@aten("matmul.default", "mm.default", "bmm.default")
def matmul(ctx: Context, x: Value, y: Value) -> object:
    if x.rank < 2 or y.rank < 2:
        return NotImplemented
    if y.rank == 2 and _from_weight(y):
        return ctx.op(Linear, x, _rows_first(ctx, y))
    return ctx.op(MatMul, x, y)


@aten("addmm.default")
def addmm(ctx: Context, bias: Value, x: Value, y: Value, beta: Any = 1, alpha: Any = 1) -> Value:
    if (
        beta == 1
        and alpha == 1
        and bias.rank == 1
        and bias.shape == y.shape[1:]
        and _from_weight(y)
    ):
        return ctx.op(Linear, x, _rows_first(ctx, y), bias)
    return baddbmm(ctx, bias, x, y, beta, alpha)


@aten("baddbmm.default")
def baddbmm(
    ctx: Context, addend: Value, x: Value, y: Value, beta: Any = 1, alpha: Any = 1
) -> Value:
    product = ctx.op(MatMul, x, y)
    if alpha != 1:
        product = ctx.op(Mul, product, alpha)
    if beta == 0:
        return product
    return arithmetic(ctx, Add, product, addend if beta == 1 else ctx.op(Mul, addend, beta))


@aten("scaled_dot_product_attention.default")
def attention(
    ctx: Context,
    q: Value,
    k: Value,
    v: Value,
    mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> object:
    width = q.shape[-1]
    heads = {3: 1, 4: 3}.get(q.rank)
    if heads is None or not isinstance(width, int) or not q.rank == k.rank == v.rank:
        return NotImplemented
    if is_causal and q.shape[-2] != k.shape[-2]:
        # PyTorch aligns the first query with the first key, hetc the last with the last.
        return NotImplemented
    if q.rank == 3:
        q, k, v = (_with_head(ctx, part) for part in (q, k, v))
        mask = _with_head(ctx, mask) if mask is not None and mask.rank == 3 else mask
    if mask is not None and mask.dtype.is_float:
        mask = ctx.cast(mask, q.dtype)
    factor = 1 / math.sqrt(width) if scale is None else scale
    return ctx.reshape(ctx.op(Attention, q, k, v, mask, scale=factor, causal=is_causal), ctx.shape)


def _with_head(ctx: Context, x: Value) -> Value:
    return ctx.reshape(x, (x.shape[0], 1, *x.shape[1:]))


def _over_last_axis(x: Value, normalized: Sequence[DimLike]) -> bool:
    return tuple(normalized) == x.shape[-1:]


@aten("layer_norm.default")
def layer_norm(
    ctx: Context,
    x: Value,
    normalized: Sequence[DimLike],
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    _cudnn: bool = True,
) -> object:
    return (
        ctx.op(LayerNorm, x, weight, bias, eps)
        if _over_last_axis(x, normalized)
        else NotImplemented
    )


@aten("rms_norm.default")
def rms_norm(
    ctx: Context,
    x: Value,
    normalized: Sequence[DimLike],
    weight: Value | None = None,
    eps: float | None = None,
) -> object:
    if not _over_last_axis(x, normalized):
        return NotImplemented
    return ctx.op(RMSNorm, x, weight, _epsilon(x.dtype) if eps is None else eps)


def _epsilon(dtype: DType) -> float:
    # PyTorch's default is the resolution of the type that it computes in: f32 for the narrow ones.
    return float(np.finfo(np.float64 if dtype.bits == 64 else np.float32).eps)


@aten("dropout.default", "feature_dropout.default", "alpha_dropout.default")
def dropout(ctx: Context, x: Value, probability: float, training: bool) -> Value:
    if training and probability:
        ctx.note("the model was exported in training mode: its dropout is left out")
    return x


@aten("native_dropout.default")
def native_dropout(
    ctx: Context, x: Value, probability: float, training: bool | None
) -> tuple[Value, Value]:
    # With nothing dropped, the mask of what is kept holds everywhere.
    return dropout(ctx, x, probability, training is not False), ctx.op(Full, True, x.shape, BOOL)
