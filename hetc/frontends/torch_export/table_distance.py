"""ATen's distances between rows."""

from __future__ import annotations

import math

from hetc.frontends.torch_export.context import Context, Unsupported
from hetc.frontends.torch_export.registry import aten
from hetc.frontends.torch_export.table_elementwise import widened
from hetc.frontends.torch_export.table_source import filled
from hetc.ir.op import Value
from hetc.ir.ops import elementwise as ew
from hetc.ir.ops.index import Gather
from hetc.ir.ops.reduce import ReduceMax, Sum
from hetc.ir.ops.source import Constant
from hetc.ir.types import I64


@aten("_cdist_forward.default")
def cdist(ctx: Context, x: Value, y: Value, p: float, _mode: int | None) -> Value:
    rows = ctx.reshape(x, (*x.shape[:-1], 1, x.shape[-1]))
    others = ctx.reshape(y, (*y.shape[:-2], 1, *y.shape[-2:]))
    return _norm(ctx, rows, others, p)


@aten("_pdist_forward.default")
def pdist(ctx: Context, x: Value, p: float = 2) -> Value:
    count = x.shape[0]
    if not isinstance(count, int):
        raise Unsupported(f"the distances between {count} rows, a number that is not known")
    pairs = [(i, j) for i in range(count) for j in range(i + 1, count)]
    if not pairs:
        return filled(ctx, 0)
    first, second = (
        ctx.op(Gather, x, ctx.op(Constant, side, I64), 0) for side in zip(*pairs, strict=True)
    )
    return _norm(ctx, first, second, p)


def _norm(ctx: Context, x: Value, y: Value, p: float) -> Value:
    """The p-norm of `x - y` over the last axis."""
    dtype = x.dtype
    wide = widened(dtype)
    if x.shape[-1] == 0:
        return filled(ctx, 0)
    gap = ctx.op(ew.Abs, ctx.op(ew.Sub, ctx.tensor(x, wide), ctx.tensor(y, wide)))
    last = (gap.rank - 1,)
    if p == 0:
        made = ctx.op(Sum, ctx.tensor(ctx.op(ew.Ne, gap, 0.0), wide), last)
    elif p == 1:
        made = ctx.op(Sum, gap, last)
    elif p == 2:
        made = ctx.op(ew.Sqrt, ctx.op(Sum, ctx.op(ew.Mul, gap, gap), last))
    elif math.isinf(p):
        made = ctx.op(ReduceMax, gap, last)
    else:
        total = ctx.op(Sum, ctx.op(ew.Pow, gap, float(p)), last)
        made = ctx.op(ew.Pow, total, 1 / p)
    return ctx.tensor(made, dtype)
