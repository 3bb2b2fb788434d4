"""ATen's ops whose sizes or numbers data decides: masks, and numbers read off a tensor."""

from __future__ import annotations

from collections.abc import Sequence

from hetc.frontends.torch_export.context import Context, Unsupported
from hetc.frontends.torch_export.registry import aten
from hetc.frontends.torch_export.table_elementwise import as_bool, where
from hetc.frontends.torch_export.table_source import filled
from hetc.ir.op import Value
from hetc.ir.ops import elementwise as ew
from hetc.ir.ops.index import Gather, Index, NonZero
from hetc.ir.ops.reduce import CumSum
from hetc.ir.ops.shape import Split
from hetc.ir.ops.source import Full
from hetc.ir.types import BOOL, I64, U8

Ids = Sequence[Value | None]


@aten("_local_scalar_dense.default", "item.default")
def number(ctx: Context, x: Value) -> Value:
    return ctx.reshape(x, ())


@aten("nonzero.default")
def nonzero(ctx: Context, x: Value) -> Value:
    return filled(ctx, 0) if x.size == 0 else _counted(ctx, x, ctx.val.shape[0])


def _counted(ctx: Context, x: Value, size: object) -> Value:
    name = f"U{sum(isinstance(op, NonZero) for op in ctx.builder.ops)}"
    ctx.symbols.bind(size, name)
    return ctx.op(NonZero, x, name)


def _coordinates(ctx: Context, mask: Value, count: object) -> tuple[Value, ...]:
    """The places where a mask holds, as one index array for each of its axes."""
    places = _counted(ctx, mask, count)
    columns = (places,) if mask.rank == 1 else ctx.ops(Split, places, 1, (1,) * mask.rank)
    return tuple(ctx.reshape(column, places.shape[:1]) for column in columns)


def by_mask(ctx: Context, x: Value, ids: Ids) -> object:
    """`x` at places of which some are given as masks."""
    picked = _without_masks(ctx, ids, _open_size(ctx))
    arrays = tuple(item for item in picked if item is not None)
    axes = tuple(axis for axis, item in enumerate(picked) if item is not None)
    if len(arrays) == 1:
        return ctx.op(Gather, x, arrays[0], axes[0])
    return ctx.op(Index, x, arrays, axes)


def _open_size(ctx: Context) -> object:
    """The size of the current result that data decides."""
    for size in ctx.val.shape:
        if not isinstance(size, int) and not ctx.symbols.knows(size):
            return size
    raise Unsupported("a mask picks elements, and no size of the result says how many")


def _without_masks(ctx: Context, ids: Ids, count: object) -> list[Value | None]:
    found: list[Value | None] = []
    if sum(item is not None and is_mask(item) for item in ids) > 1:
        raise Unsupported("indexing by several masks at once")
    for item in ids:
        if item is None or not is_mask(item):
            found.append(item)
        else:
            found.extend(_coordinates(ctx, item, count))
    return found


def is_mask(ids: Value) -> bool:
    """Whether PyTorch takes an index tensor for a mask: bools, and bytes as it once did."""
    return ids.dtype in (BOOL, U8)


@aten("masked_scatter.default")
def masked_scatter(ctx: Context, x: Value, mask: Value, source: Value) -> Value:
    """The elements of `source`, one after the other, where the mask holds."""
    shape = ctx.shape
    x, mask = ctx.broadcast(x, shape), ctx.broadcast(as_bool(ctx, mask), shape)
    taken = _dealt(ctx, ctx.reshape(mask, (mask.size,)), ctx.reshape(source, (source.size,)))
    return where(ctx, mask, ctx.reshape(taken, shape), x)


def _dealt(ctx: Context, mask: Value, rows: Value) -> Value:
    """A row of `rows` for each place of a mask [N]: the i-th for the i-th that holds."""
    if rows.shape[0] == 0:
        # Nothing can be taken, so no place may ask.
        return ctx.op(Full, 0, (*mask.shape, *rows.shape[1:]), rows.dtype)
    turn = ctx.op(ew.Sub, ctx.op(CumSum, ctx.tensor(mask, I64), 0), 1)
    inside = ctx.op(ew.Minimum, ctx.op(ew.Maximum, turn, 0), rows.shape[0] - 1)
    return ctx.op(Gather, rows, inside, 0)


def put_by_mask(ctx: Context, x: Value, ids: Ids, updates: Value, accumulate: bool) -> Value:
    """A copy of `x` where `updates` are written, or added, to places given by one mask."""
    masks = [item for item in ids if item is not None]
    axis = next(place for place, item in enumerate(ids) if item is not None)
    if len(masks) > 1 or any(item is not None for item in ids[:axis]):
        raise Unsupported("writing by a mask together with other indices")
    (mask,) = masks
    front, back = x.shape[:axis], x.shape[axis + mask.rank :]
    order = (*range(axis, axis + mask.rank), *range(axis), *range(axis + mask.rank, x.rank))
    inner = (*front, *back)
    flat = ctx.reshape(ctx.move(x, order), (mask.size, *inner))
    holds = ctx.reshape(mask, (mask.size,))
    # The updates have the axes of what is picked: those in front, the places, those behind.
    shape = (1,) * (1 + len(inner) - updates.rank) + updates.shape
    rows = ctx.move(
        ctx.reshape(updates, shape), (axis, *range(axis), *range(axis + 1, x.rank + 1 - mask.rank))
    )
    rows = ctx.tensor(rows, x.dtype)
    dealt = rows if rows.shape[0] == 1 else _dealt(ctx, holds, rows)
    written = ctx.op(ew.Add, flat, dealt) if accumulate else dealt
    spread = ctx.reshape(holds, (mask.size, *(1,) * len(inner)))
    made = ctx.op(ew.Where, spread, written, flat)
    moved = ctx.reshape(made, tuple(x.shape[place] for place in order))
    return ctx.move(moved, [order.index(place) for place in range(x.rank)])
