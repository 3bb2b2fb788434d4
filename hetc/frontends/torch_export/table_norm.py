"""ATen's normalizations over batches, groups and several axes.

Statistics that serve training only are made where the program reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hetc.frontends.torch_export.context import Context
from hetc.frontends.torch_export.registry import aten
from hetc.frontends.torch_export.table_elementwise import widened
from hetc.ir.dims import DimLike, exact_div, product
from hetc.ir.op import Value
from hetc.ir.ops.elementwise import Add, Div, Mul, Rsqrt, Sub
from hetc.ir.ops.norm import LayerNorm
from hetc.ir.ops.reduce import Mean
from hetc.ir.ops.source import Full
from hetc.ir.types import Shape


def _read(ctx: Context, index: int) -> bool:
    """Whether the program reads one of the current node's results."""
    assert ctx.node is not None
    return any(user.args[1:] == (index,) for user in ctx.node.users)


def _made(ctx: Context, *values: Value) -> tuple[Value | None, ...]:
    """The results, in the recorded types and shapes; None where nobody reads one."""
    results: list[Value | None] = []
    for index, (value, fake) in enumerate(zip(values, ctx.val, strict=True)):
        if not _read(ctx, index):
            results.append(None)
            continue
        results.append(ctx.reshape(ctx.like(value, fake), ctx.shape_of(fake)))
    return tuple(results)


def _statistics(ctx: Context, x: Value, axes: Sequence[int], eps: float) -> tuple[Value, ...]:
    """Mean, variance and reciprocal deviation along some axes, which stay with length 1."""
    mean = ctx.op(Mean, x, tuple(axes), True)
    offset = ctx.op(Sub, x, mean)
    variance = ctx.op(Mean, ctx.op(Mul, offset, offset), tuple(axes), True)
    return mean, variance, ctx.op(Rsqrt, ctx.op(Add, variance, eps))


def _scaled(
    ctx: Context,
    x: Value,
    mean: Value,
    rstd: Value,
    weight: Value | None,
    bias: Value | None,
    shape: Shape,
) -> Value:
    """`(x - mean) * rstd * weight + bias`, weight and bias under a shape that broadcasts."""
    made = ctx.op(Mul, ctx.op(Sub, x, mean), rstd)
    if weight is not None:
        made = ctx.op(Mul, made, ctx.tensor(ctx.reshape(weight, shape), x.dtype))
    if bias is not None:
        made = ctx.op(Add, made, ctx.tensor(ctx.reshape(bias, shape), x.dtype))
    return made


@aten("native_layer_norm.default")
def native_layer_norm(
    ctx: Context,
    x: Value,
    normalized: Sequence[DimLike],
    weight: Value | None,
    bias: Value | None,
    eps: float,
) -> object:
    count = len(normalized)
    if count == 1 and not _read(ctx, 1) and not _read(ctx, 2):
        return ctx.op(LayerNorm, x, weight, bias, eps), None, None
    wide = ctx.tensor(x, widened(x.dtype))
    mean, _, rstd = _statistics(ctx, wide, range(x.rank - count, x.rank), eps)
    made = _scaled(ctx, wide, mean, rstd, weight, bias, tuple(normalized))
    return _made(ctx, made, mean, rstd)


@aten("native_group_norm.default")
def native_group_norm(
    ctx: Context,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    batch: DimLike,
    channels: DimLike,
    size: DimLike,
    groups: int,
    eps: float,
) -> object:
    made, mean, rstd = _by_group(ctx, x, weight, bias, groups, eps)
    return _made(ctx, made, mean, rstd)


@aten("group_norm.default")
def group_norm(
    ctx: Context,
    x: Value,
    groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    _cudnn: bool = True,
) -> Value:
    made = _by_group(ctx, x, weight, bias, groups, eps)[0]
    return ctx.tensor(ctx.reshape(made, x.shape), x.dtype)


def _by_group(
    ctx: Context, x: Value, weight: Value | None, bias: Value | None, groups: int, eps: float
) -> tuple[Value, Value, Value]:
    batch, channels = x.shape[:2]
    inner, rest = exact_div(channels, groups), product(x.shape[2:])
    wide = ctx.tensor(ctx.reshape(x, (batch, groups, inner, rest)), widened(x.dtype))
    mean, _, rstd = _statistics(ctx, wide, (2, 3), eps)
    made = _scaled(ctx, wide, mean, rstd, weight, bias, (1, groups, inner, 1))
    return made, mean, rstd


def _by_channel(x: Value) -> Shape:
    return (1, x.shape[1], *(1,) * (x.rank - 2))


def _normalized(
    ctx: Context,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value,
    variance: Value,
    eps: float,
) -> Value:
    """A batch norm with given statistics, in f32 at least."""
    shape, wide = _by_channel(x), widened(x.dtype)
    mean, variance = (ctx.tensor(ctx.reshape(part, shape), wide) for part in (mean, variance))
    rstd = ctx.op(Rsqrt, ctx.op(Add, variance, eps))
    made = _scaled(ctx, ctx.tensor(x, wide), mean, rstd, weight, bias, shape)
    return ctx.tensor(made, x.dtype)


@aten("_native_batch_norm_legit_no_training.default")
def batch_norm_at_rest(
    ctx: Context,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value,
    variance: Value,
    _momentum: float,
    eps: float,
) -> tuple[Value | None, ...]:
    made = _normalized(ctx, x, weight, bias, mean, variance, eps)
    none = ctx.op(Full, 0, (0,), x.dtype)
    return _made(ctx, made, none, none)


@aten("batch_norm.default")
def batch_norm(
    ctx: Context,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value | None,
    variance: Value | None,
    training: bool,
    _momentum: float,
    eps: float,
    _cudnn: bool,
) -> object:
    if training or mean is None or variance is None:
        return NotImplemented
    return _normalized(ctx, x, weight, bias, mean, variance, eps)


@aten("_native_batch_norm_legit.no_stats")
def batch_norm_of_batch(
    ctx: Context,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    _training: bool,
    _momentum: float,
    eps: float,
) -> tuple[Value | None, ...]:
    made, mean, rstd, _ = _of_batch(ctx, x, weight, bias, eps)
    return _made(ctx, made, mean, rstd)


def _of_batch(
    ctx: Context, x: Value, weight: Value | None, bias: Value | None, eps: float
) -> tuple[Value, ...]:
    wide = ctx.tensor(x, widened(x.dtype))
    mean, variance, rstd = _statistics(ctx, wide, (0, *range(2, x.rank)), eps)
    made = _scaled(ctx, wide, mean, rstd, weight, bias, _by_channel(x))
    return made, mean, rstd, variance


@aten("_native_batch_norm_legit_functional.default")
def batch_norm_in_training(
    ctx: Context,
    x: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value,
    variance: Value,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Value | None, ...]:
    if not training:
        made = _normalized(ctx, x, weight, bias, mean, variance, eps)
        none = ctx.op(Full, 0, (0,), x.dtype)
        return _made(ctx, made, none, none, mean, variance)
    made, new_mean, rstd, spread = _of_batch(ctx, x, weight, bias, eps)
    count: Any = exact_div(x.size, x.shape[1])
    # The running variance is that of the sample, the one that normalizes that of the batch.
    unbiased = ctx.op(Div, ctx.op(Mul, spread, count), count - 1)
    kept = [
        _mixed(ctx, old, ctx.reshape(new, old.shape), momentum)
        for old, new in ((mean, new_mean), (variance, unbiased))
    ]
    return _made(ctx, made, new_mean, rstd, *kept)


def _mixed(ctx: Context, old: Value, new: Value, momentum: float) -> Value:
    wide = ctx.tensor(old, new.dtype)
    return ctx.op(Add, ctx.op(Mul, wide, 1 - momentum), ctx.op(Mul, new, momentum))
