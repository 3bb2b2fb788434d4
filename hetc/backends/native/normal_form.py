"""Graphs as the planner wants them: equal in what they compute, simpler in what they say."""

from __future__ import annotations

from hetc.backends.native.absorb import absorb
from hetc.ir.graph import Graph, Rewriter, rebuild
from hetc.ir.op import Op, Value
from hetc.ir.ops.control import Call
from hetc.ir.ops.elementwise import Add, Mul
from hetc.ir.ops.linear import Linear
from hetc.ir.ops.sequence import Conv1dCausal
from hetc.ir.ops.shape import Broadcast, Concat, Reshape, Slice, Tile, Transpose
from hetc.ir.ops.source import Full


def normal_form(graph: Graph) -> Graph:
    """`graph` and the graphs that it calls, in the form that the planner knows."""
    for rewrite in (_fill, _tile, Convolution(), absorb):
        graph = _rewritten(graph, rewrite)
    return graph


def _rewritten(graph: Graph, rewrite: Rewriter) -> Graph:
    callees = {id(callee): rebuild(callee, rewrite) for callee in graph.subgraphs()}

    def both(op: Op) -> Op | None:
        if isinstance(op, Call):
            return op.replace(callee=callees[id(op.callee)])
        found = rewrite(op)
        assert found is None or isinstance(found, Op)
        return found

    return rebuild(graph, both)


def _fill(op: Op) -> Op | None:
    """One number everywhere, whatever the size, is one stored number."""
    if not isinstance(op, Full) or not op.shape:
        return None
    return Broadcast(Full(op.value, (), op.dtype, loc=op.loc).result, op.shape, loc=op.loc)


def _tile(op: Op) -> Op | None:
    """Whole copies are a broadcast along an axis of their own."""
    if not isinstance(op, Tile):
        return None
    apart = [part for size in op.x.shape for part in (1, size)]
    wide = [part for pair in zip(op.repeats, op.x.shape, strict=True) for part in pair]
    x = Reshape(op.x, tuple(apart), loc=op.loc).result
    x = Broadcast(x, tuple(wide), loc=op.loc).result
    return Reshape(x, op.result.shape, loc=op.loc)


class Convolution:
    """A causal convolution as a sum over its taps: each is an elementwise product of channels, or a
    matrix product, with the inputs so many positions behind.

    The next history is a part of the same row of inputs: what joins them again is left out.
    """

    def __init__(self) -> None:
        self._joined: dict[tuple[Value, Value], Concat] = {}

    def __call__(self, op: Op) -> Op | None:
        if isinstance(op, Concat) and len(op.xs) == 2 and op.axis % op.result.rank == 2:
            return self._joined.get((op.xs[0], op.xs[1]))
        if not isinstance(op, Conv1dCausal) or op.history is None:
            return None
        outputs, inner, taps = op.weight.shape
        by_channel = inner == 1 and outputs == op.groups
        if not isinstance(taps, int) or not (by_channel or op.groups == 1):
            return None
        joined = Concat((op.history, op.x), 2, loc=op.loc)
        self._joined[op.history, op.x] = joined
        total: Value | None = None
        for tap in range(taps):
            x = Slice(joined.result, 2, tap, tap + op.x.shape[2], loc=op.loc).result
            weight = Slice(op.weight, 2, tap, tap + 1, loc=op.loc).result
            product = (_by_channel if by_channel else _by_matrix)(op, x, weight)
            total = product if total is None else Add(total, product, loc=op.loc).result
        assert total is not None
        if op.bias is not None:
            bias = Reshape(op.bias, (1, *op.bias.shape, 1), loc=op.loc).result
            total = Add(total, bias, loc=op.loc).result
        return total.op


def _by_channel(op: Conv1dCausal, x: Value, weight: Value) -> Value:
    factors = Reshape(weight, (1, weight.shape[0], 1), loc=op.loc).result
    return Mul(x, factors, loc=op.loc).result


def _by_matrix(op: Conv1dCausal, x: Value, weight: Value) -> Value:
    rows = Transpose(x, (0, 2, 1), loc=op.loc).result
    matrix = Reshape(weight, weight.shape[:2], loc=op.loc).result
    product = Linear(rows, matrix, loc=op.loc).result
    return Transpose(product, (0, 2, 1), loc=op.loc).result
