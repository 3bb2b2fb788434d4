"""ATen's random numbers: drawn anew at each call there, and from a seed of the graph here."""

from __future__ import annotations

from hetc.frontends.torch_export.context import Context
from hetc.frontends.torch_export.registry import aten
from hetc.ir.dims import DimLike
from hetc.ir.op import Value
from hetc.ir.ops.index import Sort
from hetc.ir.ops.source import Random
from hetc.ir.types import F32, DType, Shape


def _drawn(ctx: Context, shape: Shape, dtype: DType, *, normal: bool = False) -> Value:
    ctx.note("random numbers come from fixed seeds: every run of the model draws the same")
    # Each place of the program has a seed of its own.
    seed = sum(isinstance(op, Random) for op in ctx.builder.ops)
    return ctx.op(Random, shape, seed, normal, dtype)


@aten("rand.default", "rand_like.default")
def rand(ctx: Context, _size: object, **_dtype: object) -> Value:
    return _drawn(ctx, ctx.shape, ctx.dtype)


@aten("randn.default", "randn_like.default")
def randn(ctx: Context, _size: object, **_dtype: object) -> Value:
    return _drawn(ctx, ctx.shape, ctx.dtype, normal=True)


@aten("randperm.default")
def randperm(ctx: Context, count: DimLike, **_dtype: object) -> Value:
    order = ctx.ops(Sort, _drawn(ctx, (count,), F32), 0)[1]
    return ctx.tensor(order, ctx.dtype)
