"""ATen's ops that read or write by index, and orderings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hetc.frontends.torch_export.context import Context
from hetc.frontends.torch_export.registry import aten
from hetc.frontends.torch_export.table_elementwise import widened
from hetc.frontends.torch_export.table_mask import Ids, by_mask, is_mask, put_by_mask
from hetc.frontends.torch_export.table_source import filled
from hetc.ir.op import Value
from hetc.ir.ops.elementwise import Div, Eq, FloorDiv, Maximum, Ne
from hetc.ir.ops.index import Embedding, Gather, Index, IndexPut, PutAlong, Sort, TakeAlong, TopK
from hetc.ir.ops.source import Full, Iota, Weight
from hetc.ir.types import BOOL, I64, DType


@aten("embedding.default")
def embedding(ctx: Context, table: Value, ids: Value, *_training: object, **_more: object) -> Value:
    return ctx.op(Embedding, table, ids)


@aten("index.Tensor", "_unsafe_index.Tensor")
def index(ctx: Context, x: Value, ids: Ids) -> object:
    if any(item is not None and is_mask(item) for item in ids):
        return by_mask(ctx, x, ids)
    picked, axes = _selection(ids)
    if len(picked) > 1:
        return ctx.op(Index, x, picked, axes)
    if axes == (0,) and x.rank == 2 and isinstance(x.op, Weight):
        return ctx.op(Embedding, x, picked[0])
    return ctx.op(Gather, x, picked[0], axes[0])


def _selection(ids: Ids) -> tuple[tuple[Value, ...], tuple[int, ...]]:
    """Index tensors and their axes."""
    picked = tuple(item for item in ids if item is not None)
    return picked, tuple(axis for axis, item in enumerate(ids) if item is not None)


@aten("index_select.default")
def index_select(ctx: Context, x: Value, dim: int, ids: Value) -> Value:
    picked = ctx.op(Gather, vector(ctx, x), ctx.reshape(ids, (ids.size,)), dim % max(x.rank, 1))
    return ctx.reshape(picked, ctx.shape)


@aten("index_put.default", "_unsafe_index_put.default")
def index_put(ctx: Context, x: Value, ids: Ids, updates: Value, accumulate: bool = False) -> object:
    if any(item is not None and is_mask(item) for item in ids):
        return put_by_mask(ctx, x, ids, updates, accumulate)
    updates = ctx.cast(updates, x.dtype)
    return ctx.op(IndexPut, x, updates, *_selection(ids), accumulate=accumulate)


@aten("gather.default")
def gather(ctx: Context, x: Value, dim: int, ids: Value, sparse_grad: bool = False) -> object:
    if ids.size == 0:
        # PyTorch asks nothing of ids that pick nothing, not even their rank.
        return filled(ctx, 0)
    return ctx.reshape(ctx.op(TakeAlong, vector(ctx, x), vector(ctx, ids), dim), ctx.shape)


def vector(ctx: Context, x: Value) -> Value:
    """A tensor without axes as a vector of one element, which PyTorch takes it for."""
    return x if x.rank else ctx.reshape(x, (1,))


def put_along(
    ctx: Context, x: Value, dim: int, ids: Value, source: Value, reduction: str = "none"
) -> Value:
    """`source` written, or combined, into `x` along an axis."""
    if ids.size == 0:
        return x
    ids, source = vector(ctx, ids), vector(ctx, source)
    # Only the part of the source that has an index is written.
    for axis, length in enumerate(ids.shape):
        source = source if source.shape[axis] == 1 else ctx.part(source, axis, 0, length)
    return ctx.reshape(ctx.op(PutAlong, vector(ctx, x), ids, source, dim, reduction), x.shape)


@aten("scatter.value")
def scatter_value(ctx: Context, x: Value, dim: int, ids: Value, value: Any) -> Value:
    return put_along(ctx, x, dim, ids, ctx.op(Full, value, (1,) * max(x.rank, 1), x.dtype))


@aten("scatter.src")
def scatter_src(ctx: Context, x: Value, dim: int, ids: Value, source: Value) -> Value:
    return put_along(ctx, x, dim, ids, source)


@aten("scatter_add.default")
def scatter_add(ctx: Context, x: Value, dim: int, ids: Value, source: Value) -> Value:
    return scatter_reduce(ctx, x, dim, ids, source, "sum")


_REDUCTIONS = {"sum": "add", "mean": "add", "prod": "mul", "amax": "max", "amin": "min"}


@aten("scatter_reduce.two")
def scatter_reduce(
    ctx: Context,
    x: Value,
    dim: int,
    ids: Value,
    source: Value,
    reduce: str,
    include_self: bool = True,
) -> Value:
    dtype = x.dtype
    # In f32 for the narrow floats, and as numbers for bools: sums of them are counts.
    wide = I64 if dtype is BOOL else widened(dtype)
    start, added = ctx.tensor(x, wide), ctx.tensor(source, wide)
    one = ctx.op(Full, 1, (1,) * max(x.rank, 1), wide)
    if not include_self:
        # What is written to begins as what changes nothing; the rest stays itself.
        neutral = ctx.op(Full, _neutral(reduce, wide), (1,) * max(x.rank, 1), wide)
        start = put_along(ctx, start, dim, ids, neutral)
    made = put_along(ctx, start, dim, ids, added, _REDUCTIONS[reduce])
    if reduce == "mean":
        count = ctx.op(Full, int(include_self), x.shape, wide)
        count = put_along(ctx, count, dim, ids, one, "add")
        # Places that nothing was written to are divided by 1.
        made = ctx.op(FloorDiv if wide.is_int else Div, made, ctx.op(Maximum, count, 1))
    return ctx.op(Ne, made, 0) if dtype is BOOL else ctx.tensor(made, dtype)


def _neutral(reduce: str, dtype: DType) -> float | int:
    if reduce in ("sum", "mean"):
        return 0
    if reduce == "prod":
        return 1
    if dtype.is_float:
        return -math.inf if reduce == "amax" else math.inf
    ends = np.iinfo(dtype.numpy)
    return int(ends.min if reduce == "amax" else ends.max)


@aten("topk.default")
def topk(
    ctx: Context, x: Value, k: int, dim: int = -1, largest: bool = True, _sorted: bool = True
) -> tuple[Value, ...]:
    return _ordered(ctx, x, lambda row: ctx.ops(TopK, row, k, dim, largest))


def _ordered(
    ctx: Context, x: Value, order: Callable[[Value], tuple[Value, ...]]
) -> tuple[Value, ...]:
    """Values and places in an order; those of a tensor without axes as of a vector of one."""
    shapes = [ctx.shape_of(part) for part in ctx.val]
    made = order(vector(ctx, x))
    return tuple(ctx.reshape(part, shape) for part, shape in zip(made, shapes, strict=True))


@aten("sort.default")
def sort(ctx: Context, x: Value, dim: int = -1, descending: bool = False) -> tuple[Value, ...]:
    return _ordered(ctx, x, lambda row: ctx.ops(Sort, row, dim, descending))


@aten("sort.stable")
def sort_stable(
    ctx: Context, x: Value, stable: object = None, dim: int = -1, descending: bool = False
) -> tuple[Value, ...]:
    return sort(ctx, x, dim, descending)


@aten("argsort.default")
def argsort(ctx: Context, x: Value, dim: int = -1, descending: bool = False) -> Value:
    return ctx.ops(Sort, x, dim, descending)[1]


@aten("one_hot.default")
def one_hot(ctx: Context, ids: Value, classes: int = -1) -> object:
    if classes < 0:
        return NotImplemented
    numbers = ctx.op(Iota, classes, dtype=ids.dtype)
    return ctx.cast(ctx.op(Eq, ctx.reshape(ids, (*ids.shape, 1)), numbers), I64)
