"""Scan sums: running sums of data along the tokens become scans, whose last sum is state.

Sums of positions stay: decode computes them again for every position.
"""

from __future__ import annotations

from hetc.ir.graph import Graph, rebuild
from hetc.ir.op import Op, Value
from hetc.ir.ops.elementwise import Cast
from hetc.ir.ops.reduce import CumSum
from hetc.ir.ops.sequence import Scan
from hetc.ir.ops.shape import normalize_axis
from hetc.ir.types import F32, DType
from hetc.passes.index_only import IndexOnly
from hetc.passes.rewrite import fit
from hetc.passes.tokens import LENGTH


def scan_sums(graph: Graph) -> Graph:
    """`cumsum x`, along tokens that have an axis to themselves, becomes `scan x, 1`."""
    index_only = IndexOnly()

    def step(op: Op) -> tuple[Value, ...] | None:
        if not isinstance(op, CumSum) or index_only(op.x):
            return None
        axis = normalize_axis(op.axis, op.x.rank)
        if op.x.shape[axis] != LENGTH:
            return None
        dtype = _summed_in(op.result.dtype)
        x = op.x if op.x.dtype is dtype else Cast(op.x, dtype, loc=op.loc).result
        return fit(Scan(x, 1, axis=axis, loc=op.loc), op)

    return rebuild(graph, step)


def _summed_in(dtype: DType) -> DType:
    """The type of the sum so far: a sum kept in 16 bits would soon no longer grow."""
    return F32 if dtype.is_float and dtype.bits < F32.bits else dtype
