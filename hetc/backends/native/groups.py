"""Matrices that the graph has in groups of integers: which form they have, and what is stored."""

from __future__ import annotations

from collections.abc import Callable

from hetc.backends.native.blocks import GROUP, BlockFormat
from hetc.ir.graph import Graph, rebuild
from hetc.ir.op import Op, Value
from hetc.ir.ops.index import Embedding
from hetc.ir.ops.quant import Dequantize, Unpack4
from hetc.ir.ops.source import Weight
from hetc.ir.types import F16, I8, Array


def format_of(matrix: Value) -> BlockFormat | None:
    """The blocks that hold the numbers of a matrix as they are stored; None for any other form,
    which is dequantized when it is packed."""
    op = matrix.op
    if not isinstance(op, Dequantize) or op.zero is not None or op.group != GROUP:
        return None
    if op.scale.dtype is not F16 or matrix.rank != op.x.rank:
        return None
    if op.x.dtype is I8 and op.shift is None:
        return BlockFormat(8)
    packed = isinstance(op.x.op, Unpack4) and op.shift is not None and op.shift.dtype is F16
    return BlockFormat(4) if packed else None


def parts_of(
    matrix: Value, evaluate: Callable[[Value], Array]
) -> tuple[Array, Array, Array | None]:
    """The integers, the scales and the shifts of a matrix that has a format."""
    op = matrix.op
    assert isinstance(op, Dequantize), "a matrix with a format"
    shift = None if op.shift is None else evaluate(op.shift)
    return evaluate(op.x), evaluate(op.scale), shift


def lookups_of_matrices(graph: Graph) -> Graph:
    """`graph` where rows of what is stored, dequantized, are rows of the dequantized matrix: they
    are looked up in the blocks that a product reads."""
    matrices = {
        _stored_name(op.x): op.result
        for op in graph.ops
        if isinstance(op, Dequantize) and _stored_name(op.x)
    }

    def rewrite(op: Op) -> Op | None:
        if not isinstance(op, Dequantize):
            return None
        rows = op.x.op.operands[0].op if isinstance(op.x.op, Unpack4) else op.x.op
        if not isinstance(rows, Embedding):
            return None
        matrix = matrices.get(_stored_name(rows.table))
        return None if matrix is None else Embedding(matrix, rows.ids, loc=op.loc)

    return rebuild(graph, rewrite)


def _stored_name(value: Value) -> str:
    """The weight that holds the integers of a matrix; empty where they are none."""
    op = value.op
    if isinstance(op, Unpack4):
        return _stored_name(op.x)
    return op.name if isinstance(op, Weight) else ""
