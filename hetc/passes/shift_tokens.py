"""Shift tokens: what stands one token later, zeros before it, becomes a convolution whose state is
the last tokens."""

from __future__ import annotations

from hetc.ir.graph import Graph, rebuild
from hetc.ir.op import Op, Value
from hetc.ir.ops.sequence import Conv1dCausal
from hetc.ir.ops.shape import Concat, Pad, Transpose
from hetc.ir.ops.source import Full
from hetc.passes.index_only import IndexOnly
from hetc.passes.rewrite import fit
from hetc.passes.tokens import LENGTH


def shift_tokens(graph: Graph) -> Graph:
    """`pad x {low = [0, n, 0], high = [0, -n, 0]}` along the tokens becomes `conv1d_causal`."""
    index_only = IndexOnly()

    def step(op: Op) -> tuple[Value, ...] | None:
        if not isinstance(op, Pad) or op.value != 0 or op.x.rank != 3 or index_only(op.x):
            return None
        moved = [axis for axis in range(3) if (op.low[axis], op.high[axis]) != (0, 0)]
        if len(moved) != 1 or moved[0] == 0 or not op.x.dtype.is_float:
            return None
        (axis,) = moved
        by, channels = op.low[axis], op.x.shape[3 - axis]
        if not isinstance(by, int) or by <= 0 or op.high[axis] != -by:
            return None
        if op.x.shape[axis] != LENGTH or not isinstance(channels, int):
            return None
        return fit(_shifted(op.x, axis, by, channels, op.loc), op)

    return rebuild(graph, step)


def _shifted(x: Value, axis: int, by: int, channels: int, loc: str) -> Op:
    first = Full(1.0, (channels, 1, 1), x.dtype, loc=loc).result
    others = Full(0.0, (channels, 1, by), x.dtype, loc=loc).result
    taps = Concat((first, others), 2, loc=loc).result
    if axis == 2:
        return Conv1dCausal(x, taps, groups=channels, loc=loc)
    turned = Transpose(x, (0, 2, 1), loc=loc).result
    made = Conv1dCausal(turned, taps, groups=channels, loc=loc).result
    return Transpose(made, (0, 2, 1), loc=loc)
