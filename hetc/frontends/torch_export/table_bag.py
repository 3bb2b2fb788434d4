"""ATen's embedding bags: rows of a table, put together bag by bag."""

from __future__ import annotations

from hetc.frontends.torch_export.context import Context, Unsupported
from hetc.frontends.torch_export.registry import aten
from hetc.frontends.torch_export.table_elementwise import widened
from hetc.frontends.torch_export.table_index import put_along
from hetc.ir.dims import DimLike
from hetc.ir.op import Value
from hetc.ir.ops import elementwise as ew
from hetc.ir.ops.index import Gather
from hetc.ir.ops.reduce import Sum
from hetc.ir.ops.source import Full, Iota
from hetc.ir.types import I64, Shape


@aten("_embedding_bag.default", "_embedding_bag_forward_only.default")
def embedding_bag(
    ctx: Context,
    table: Value,
    ids: Value,
    offsets: Value,
    _by_frequency: bool = False,
    mode: int = 0,
    _sparse: bool = False,
    weights: Value | None = None,
    last_offset: bool = False,
    padding: int = -1,
) -> tuple[Value | None, ...]:
    """Rows of a table, summed (mode 0), averaged (1) or compared (2) bag by bag.

    The other results serve training only.
    """
    assert ctx.node is not None
    if any(user.args[1:] != (0,) for user in ctx.node.users):
        raise Unsupported("the results of _embedding_bag that only its gradient reads")
    bags, width = ctx.shape_of(ctx.val[0])
    dtype, wide = table.dtype, widened(table.dtype)
    count = ids.shape[0]
    bag = _bag_of(ctx, offsets, count, last_offset)
    rows = ctx.tensor(ctx.op(Gather, table, ids, 0), wide)
    if weights is not None:
        rows = ctx.op(ew.Mul, rows, ctx.reshape(ctx.tensor(weights, wide), (count, 1)))
    kept = None
    if padding >= 0:
        kept = ctx.reshape(ctx.op(ew.Ne, ids, padding), (count, 1))
    places = ctx.broadcast(ctx.reshape(bag, (count, 1)), (count, width))
    counted = ctx.op(Full, 1, (count, 1), wide) if kept is None else ctx.tensor(kept, wide)
    sizes = put_along(
        ctx, ctx.op(Full, 0, (bags, 1), wide), 0, ctx.reshape(bag, (count, 1)), counted, "add"
    )
    if mode == 2:
        made = _largest(ctx, rows, kept, places, sizes, (bags, width))
    else:
        rows = rows if kept is None else ctx.op(ew.Where, kept, rows, 0.0)
        made = put_along(ctx, ctx.op(Full, 0, (bags, width), wide), 0, places, rows, "add")
        if mode == 1:
            made = ctx.op(ew.Div, made, ctx.op(ew.Maximum, sizes, 1.0))
    return ctx.tensor(made, dtype), None, None, None


def _bag_of(ctx: Context, offsets: Value, count: DimLike, last_offset: bool) -> Value:
    """The number of the bag that each of `count` ids is in: how many bags begin before it, or with
    it, less one."""
    starts = offsets
    if last_offset:
        starts = ctx.part(offsets, 0, 0, offsets.shape[0] - 1)
    places = ctx.reshape(ctx.op(Iota, count, dtype=offsets.dtype), (count, 1))
    begun = ctx.op(ew.Le, ctx.reshape(starts, (1, starts.shape[0])), places)
    return ctx.op(ew.Sub, ctx.op(Sum, ctx.tensor(begun, I64), (1,)), 1)


def _largest(
    ctx: Context, rows: Value, kept: Value | None, places: Value, sizes: Value, shape: Shape
) -> Value:
    lowest = float("-inf")
    rows = rows if kept is None else ctx.op(ew.Where, kept, rows, lowest)
    made = put_along(ctx, ctx.op(Full, lowest, shape, rows.dtype), 0, places, rows, "max")
    # A bag of nothing is zeros.
    return ctx.op(ew.Where, ctx.op(ew.Gt, sizes, 0.0), made, 0.0)
