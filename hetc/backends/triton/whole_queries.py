"""Attention of the last queries alone becomes attention of all, of which the last are read.

The kernel attends all rows of a prompt to themselves. In the last layer some graphs keep only the
last query before that.
"""

from __future__ import annotations

from hetc.backends.triton.infer_layouts import END, LAST
from hetc.ir.graph import Graph, rebuild
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention, Rope
from hetc.ir.ops.norm import RMSNorm
from hetc.ir.ops.shape import Slice, Transpose


def whole_queries(graph: Graph) -> Graph:
    """`graph` with the queries of every attention whole, where they can be."""
    return rebuild(graph, _rewrite)


def _rewrite(op: Op) -> Op | None:
    if not isinstance(op, Attention) or op.q.shape[2] != 1 or op.k.shape[2] != END:
        return None
    whole = _whole(op.q, 2)
    if whole is None or op.mask is not None:
        return None
    return Slice(op.replace(q=whole).results[0], 2, LAST, END, loc=op.loc)


def _whole(value: Value, axis: int) -> Value | None:
    """`value` before all but its last token was cut off, which are along `axis`."""
    op = value.op
    match op:
        case Slice() if op.axis % value.rank == axis and op.start == LAST:
            return op.x
        case Slice() if op.axis % value.rank != axis:
            whole = _whole(op.x, axis)
            return None if whole is None else op.replace(x=whole).results[0]
        case Transpose():
            whole = _whole(op.x, op.perm[axis])
            return None if whole is None else op.replace(x=whole).results[0]
        case RMSNorm():
            whole = _whole(op.x, axis)
            return None if whole is None else op.replace(x=whole).results[0]
        case Rope():
            parts = [_whole(x, axis + x.rank - value.rank) for x in (op.x, op.cos, op.sin)]
            if None in parts:
                return None
            x, cos, sin = parts
            return op.replace(x=x, cos=cos, sin=sin).results[0]
    return None
