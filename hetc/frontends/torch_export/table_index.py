"""ATen's ops that read or write by index, and orderings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hetc.frontends.torch_export.context import Context
from hetc.frontends.torch_export.registry import aten
from hetc.ir.dims import DimLike
from hetc.ir.op import Value
from hetc.ir.ops.elementwise import Eq
from hetc.ir.ops.index import Embedding, Gather, Index, IndexPut, PutAlong, Sort, TakeAlong, TopK
from hetc.ir.ops.source import Full, Iota, Weight
from hetc.ir.types import I64

Ids = Sequence[Value | None]


@aten("embedding.default")
def embedding(ctx: Context, table: Value, ids: Value, *_training: object, **_more: object) -> Value:
    return ctx.op(Embedding, table, ids)


def _selection(ids: Ids) -> tuple[tuple[Value, ...], tuple[int, ...]] | None:
    """Index tensors and their axes; None for boolean masks, which pick a number of elements that
    data decides."""
    picked = tuple(item for item in ids if item is not None)
    axes = tuple(axis for axis, item in enumerate(ids) if item is not None)
    return (picked, axes) if all(item.dtype.is_int for item in picked) else None


@aten("index.Tensor", "_unsafe_index.Tensor")
def index(ctx: Context, x: Value, ids: Ids) -> object:
    selection = _selection(ids)
    if selection is None:
        return NotImplemented
    picked, axes = selection
    if len(picked) > 1:
        return ctx.op(Index, x, picked, axes)
    if axes == (0,) and x.rank == 2 and isinstance(x.op, Weight):
        return ctx.op(Embedding, x, picked[0])
    return ctx.op(Gather, x, picked[0], axes[0])


@aten("index_select.default")
def index_select(ctx: Context, x: Value, dim: int, ids: Value) -> Value:
    return ctx.op(Gather, x, ctx.reshape(ids, (ids.size,)), dim % x.rank)


@aten("index_put.default", "_unsafe_index_put.default")
def index_put(ctx: Context, x: Value, ids: Ids, updates: Value, accumulate: bool = False) -> object:
    selection = _selection(ids)
    if selection is None:
        return NotImplemented
    return ctx.op(IndexPut, x, ctx.cast(updates, x.dtype), *selection, accumulate=accumulate)


@aten("gather.default")
def gather(ctx: Context, x: Value, dim: int, ids: Value, **_sparse: object) -> object:
    return ctx.op(TakeAlong, x, ids, dim) if x.rank else NotImplemented


@aten("scatter.value")
def scatter_value(ctx: Context, x: Value, dim: int, ids: Value, value: Any) -> Value:
    updates = ctx.op(Full, value, (1,) * x.rank, x.dtype)
    return ctx.op(PutAlong, x, ids, updates, dim)


@aten("scatter.src")
def scatter_src(ctx: Context, x: Value, dim: int, ids: Value, source: Value) -> Value:
    # Only the part of the source that has an index is written.
    for axis, length in enumerate(ids.shape):
        source = ctx.part(source, axis, 0, length)
    return ctx.op(PutAlong, x, ids, source, dim)


@aten("topk.default")
def topk(
    ctx: Context, x: Value, k: DimLike, dim: int = -1, largest: bool = True, _sorted: bool = True
) -> object:
    if not isinstance(k, int):
        # All of the axis, in order: a permutation, as `Sort` says and `TopK` would not.
        return ctx.ops(Sort, x, dim, largest) if k == x.shape[dim % x.rank] else NotImplemented
    return ctx.ops(TopK, x, k, dim, largest)


@aten("sort.default")
def sort(ctx: Context, x: Value, dim: int = -1, descending: bool = False) -> tuple[Value, ...]:
    return ctx.ops(Sort, x, dim, descending)


@aten("sort.stable")
def sort_stable(
    ctx: Context, x: Value, stable: object = None, dim: int = -1, descending: bool = False
) -> tuple[Value, ...]:
    return ctx.ops(Sort, x, dim, descending)


@aten("argsort.default")
def argsort(ctx: Context, x: Value, dim: int = -1, descending: bool = False) -> Value:
    return ctx.ops(Sort, x, dim, descending)[1]


@aten("one_hot.default")
def one_hot(ctx: Context, ids: Value, classes: int = -1) -> object:
    if classes < 0:
        return NotImplemented
    numbers = ctx.op(Iota, classes, dtype=ids.dtype)
    return ctx.cast(ctx.op(Eq, ctx.reshape(ids, (*ids.shape, 1)), numbers), I64)
