"""The gradients of ATen's normalizations and embeddings."""

from __future__ import annotations

from collections.abc import Sequence

from hetc.frontends.torch_export.context import Context
from hetc.frontends.torch_export.registry import aten
from hetc.frontends.torch_export.table_elementwise import widened
from hetc.ir.dims import DimLike, exact_div
from hetc.ir.op import Value
from hetc.ir.ops.elementwise import Div, Mul, Ne, Sub, Where
from hetc.ir.ops.index import Gather, IndexPut
from hetc.ir.ops.reduce import Mean, Sum
from hetc.ir.ops.source import Full
from hetc.ir.types import F32

Gradients = tuple[Value | None, ...]


def _of_x(ctx: Context, grad: Value, scaled: Value, rstd: Value, axes: Sequence[int]) -> Value:
    """The gradient of what was normalized along `axes`, from that of the normalized `scaled`
    (Ba et al. 2016, "Layer normalization", differentiated)."""
    centre = ctx.op(Mean, grad, tuple(axes), True)
    along = ctx.op(Mean, ctx.op(Mul, grad, scaled), tuple(axes), True)
    rest = ctx.op(Sub, ctx.op(Sub, grad, centre), ctx.op(Mul, scaled, along))
    return ctx.op(Mul, rest, rstd)


@aten("native_layer_norm_backward.default")
def layer_norm_backward(
    ctx: Context,
    grad: Value,
    x: Value,
    normalized: Sequence[DimLike],
    mean: Value,
    rstd: Value,
    weight: Value | None,
    bias: Value | None,
    wanted: Sequence[bool],
) -> Gradients:
    wide = widened(x.dtype)
    axes = range(x.rank - len(normalized), x.rank)
    leading = tuple(range(x.rank - len(normalized)))
    grad, mean, rstd = (ctx.tensor(part, wide) for part in (grad, mean, rstd))
    scaled = ctx.op(Mul, ctx.op(Sub, ctx.tensor(x, wide), mean), rstd)
    of_x = of_weight = of_bias = None
    if wanted[0]:
        inner = grad if weight is None else ctx.op(Mul, grad, ctx.tensor(weight, wide))
        of_x = _of_x(ctx, inner, scaled, rstd, axes)
    if wanted[1] and weight is not None:
        of_weight = _summed(ctx, ctx.op(Mul, grad, scaled), leading)
    if wanted[2] and bias is not None:
        of_bias = _summed(ctx, grad, leading)
    return _typed(ctx, of_x, of_weight, of_bias)


def _summed(ctx: Context, x: Value, axes: tuple[int, ...]) -> Value:
    return ctx.op(Sum, x, axes) if axes else x


def _typed(ctx: Context, *values: Value | None) -> Gradients:
    """The gradients in the recorded types and shapes."""
    return tuple(
        value
        if value is None or fake is None
        else ctx.reshape(ctx.like(value, fake), ctx.shape_of(fake))
        for value, fake in zip(values, ctx.val, strict=True)
    )


@aten("native_group_norm_backward.default")
def group_norm_backward(
    ctx: Context,
    grad: Value,
    x: Value,
    mean: Value,
    rstd: Value,
    weight: Value | None,
    batch: DimLike,
    channels: DimLike,
    size: DimLike,
    groups: int,
    wanted: Sequence[bool],
) -> Gradients:
    wide = widened(x.dtype)
    inner = exact_div(channels, groups)
    parts = (batch, groups, inner, size)
    grad, given = (ctx.tensor(ctx.reshape(part, parts), wide) for part in (grad, x))
    mean, rstd = (
        ctx.tensor(ctx.reshape(part, (batch, groups, 1, 1)), wide) for part in (mean, rstd)
    )
    scaled = ctx.op(Mul, ctx.op(Sub, given, mean), rstd)
    of_x = of_weight = of_bias = None
    if wanted[0]:
        through = grad
        if weight is not None:
            factor = ctx.tensor(ctx.reshape(weight, (1, groups, inner, 1)), wide)
            through = ctx.op(Mul, grad, factor)
        of_x = _of_x(ctx, through, scaled, rstd, (2, 3))
    if wanted[1]:
        of_weight = ctx.op(Sum, ctx.op(Mul, grad, scaled), (0, 3))
    if wanted[2]:
        of_bias = ctx.op(Sum, grad, (0, 3))
    return _typed(ctx, of_x, of_weight, of_bias)


@aten("embedding_dense_backward.default")
def embedding_backward(
    ctx: Context, grad: Value, ids: Value, rows: DimLike, padding: int, by_frequency: bool
) -> Value:
    width = grad.shape[-1]
    given = ctx.tensor(ctx.reshape(grad, (ids.size, width)), F32)
    flat = ctx.reshape(ids, (ids.size,))
    if padding >= 0:
        kept = ctx.reshape(ctx.op(Ne, flat, padding), (ids.size, 1))
        given = ctx.op(Where, kept, given, 0.0)
    if by_frequency:
        ones, none = ctx.op(Full, 1, (ids.size,), F32), ctx.op(Full, 0, (rows,), F32)
        counts = ctx.op(IndexPut, none, ones, (flat,), (0,), accumulate=True)
        shares = ctx.reshape(ctx.op(Gather, counts, flat, 0), (ids.size, 1))
        given = ctx.op(Div, given, shares)
    zeros = ctx.op(Full, 0, (rows, width), F32)
    made = ctx.op(IndexPut, zeros, given, (flat,), (0,), accumulate=True)
    return ctx.tensor(made, grad.dtype)
