"""ATen's ops that make tensors out of sizes and numbers."""

from __future__ import annotations

from typing import Any

from hetc.frontends.torch_export.context import Context
from hetc.frontends.torch_export.registry import aten
from hetc.ir.dims import Dim, DimLike
from hetc.ir.op import Value
from hetc.ir.ops.elementwise import Add, Eq, Mul
from hetc.ir.ops.source import Full, Iota


def filled(ctx: Context, value: Any) -> Value:
    """`value` in the shape and type of the current result."""
    if isinstance(value, Value):
        # A number that was read off a tensor.
        return ctx.broadcast(ctx.tensor(value, ctx.dtype), ctx.shape)
    if ctx.dtype.is_int and isinstance(value, float):
        value = int(value)
    return ctx.op(Full, ctx.cast(value, ctx.dtype), ctx.shape, ctx.dtype)


@aten("zeros.default", "zeros_like.default", "new_zeros.default")
def zeros(ctx: Context, *_like: object, **_dtype: object) -> Value:
    return filled(ctx, 0)


# What an empty tensor holds is undefined: zeros are as good as anything, and repeatable.
@aten(
    "empty.memory_format",
    "empty_like.default",
    "new_empty.default",
    "empty_strided.default",
    "new_empty_strided.default",
)
def empty(ctx: Context, *_like: object, **_dtype: object) -> Value:
    return filled(ctx, 0)


@aten("ones.default", "ones_like.default", "new_ones.default")
def ones(ctx: Context, *_like: object, **_dtype: object) -> Value:
    return filled(ctx, 1)


@aten("full.default", "full_like.default", "fill.Scalar")
def full(ctx: Context, _shape: object, value: Any, **_dtype: object) -> Value:
    return filled(ctx, value)


@aten("new_full.default")
def new_full(ctx: Context, _like: object, _shape: object, value: Any, **_dtype: object) -> Value:
    return filled(ctx, value)


@aten("scalar_tensor.default")
def scalar_tensor(ctx: Context, value: Any, **_dtype: object) -> Value:
    return filled(ctx, value)


@aten("arange.default")
def arange(ctx: Context, end: Any, **dtype: object) -> Value:
    return arange_start_step(ctx, 0, end, 1, **dtype)


@aten("arange.start")
def arange_start(ctx: Context, start: Any, end: Any, **dtype: object) -> Value:
    return arange_start_step(ctx, start, end, 1, **dtype)


@aten("arange.start_step")
def arange_start_step(
    ctx: Context, start: Any, _end: Any, step: Any = 1, **_dtype: object
) -> Value:
    (size,) = ctx.shape
    if ctx.dtype.is_int:
        # PyTorch counts in whole numbers then, and drops fractions before.
        start, step = (int(x) if isinstance(x, float) else x for x in (start, step))
        return ctx.tensor(ctx.op(Iota, size, start, step), ctx.dtype)
    if isinstance(start, int | Dim) and isinstance(step, int):
        return ctx.op(Iota, size, start, step, ctx.dtype)
    return ctx.op(Add, ctx.op(Mul, ctx.op(Iota, size, dtype=ctx.dtype), step), start)


def diagonal(ctx: Context, rows: DimLike, columns: DimLike) -> tuple[Value, Value]:
    """Row numbers [rows, 1] and column numbers [1, columns]."""
    return ctx.reshape(ctx.op(Iota, rows), (rows, 1)), ctx.reshape(
        ctx.op(Iota, columns), (1, columns)
    )


@aten("eye.default", "eye.m")
def eye(ctx: Context, *_sizes: object, **_dtype: object) -> Value:
    rows, columns = diagonal(ctx, *ctx.shape)
    return ctx.tensor(ctx.op(Eq, rows, columns), ctx.dtype)
