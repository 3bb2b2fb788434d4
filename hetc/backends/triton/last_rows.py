"""Where the last tokens are cut out: as late as attention needs it, as early as a norm allows.

The attention kernel attends all rows of a prompt to themselves; in the last layer some graphs keep
only the last query before that. A norm, on the other hand, is a norm of each row: of one that only
the last rows are read, only those are computed.
"""

from __future__ import annotations

from hetc.backends.triton.infer_layouts import END, LAST
from hetc.ir.graph import Graph, rebuild
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention, Rope
from hetc.ir.ops.norm import Norm, RMSNorm
from hetc.ir.ops.shape import Slice, Transpose


def place_last_rows(graph: Graph) -> Graph:
    """`graph` with the last tokens cut out where kernels can do it."""
    return rebuild(rebuild(graph, _early), _late).prune()


def _early(op: Op) -> Op | None:
    """A cut of a norm's result as the norm of a cut; others that read the result keep it."""
    if not isinstance(op, Slice) or op.start != LAST or not isinstance(op.x.op, Norm):
        return None
    norm = op.x.op
    if op.axis % op.x.rank == op.x.rank - 1:
        return None
    return norm.replace(x=op.replace(x=norm.x).results[0])


def _late(op: Op) -> Op | None:
    """Attention of the last queries as the last rows of the attention of all."""
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
