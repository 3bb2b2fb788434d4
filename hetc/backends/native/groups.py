"""Matrices that the graph has in groups of integers: which form they have, and what is stored."""

from __future__ import annotations

from collections.abc import Callable

from hetc.backends.native.blocks import GROUPS, BlockFormat, Offset
from hetc.ir.graph import Graph, rebuild
from hetc.ir.op import Op, Value
from hetc.ir.ops.index import Embedding
from hetc.ir.ops.quant import Dequantize, Unpack4
from hetc.ir.ops.source import Weight
from hetc.ir.types import F16, I8, U8, Array


def format_of(matrix: Value) -> BlockFormat | None:
    """The blocks that hold the numbers of a matrix as they are stored; None for any other form,
    which is dequantized when it is packed."""
    op = matrix.op
    if not isinstance(op, Dequantize) or matrix.rank != op.x.rank:
        return None
    group = next((size for size in GROUPS if op.group % size == 0), None)
    floats = [value.dtype for value in (op.scale, op.shift) if value is not None]
    signed = op.x.dtype is I8
    if group is None or not all(dtype.is_float for dtype in floats):
        return None
    # One of them says where zero is: signed integers themselves, a zero or a shift.
    if [signed, op.zero is not None, op.shift is not None].count(True) != 1:
        return None
    if op.x.dtype not in (I8, U8) or (op.zero is not None and op.zero.dtype is not U8):
        return None
    offset: Offset = "middle" if signed else "low" if op.zero is None else "zero"
    numbers = "f16" if all(dtype is F16 for dtype in floats) else "f32"
    return BlockFormat(4 if isinstance(op.x.op, Unpack4) else 8, group, numbers, offset)


def parts_of(
    matrix: Value, evaluate: Callable[[Value], Array]
) -> tuple[Array, Array, Array | None]:
    """The integers, the scales, and the zeros or shifts of a matrix that has a format."""
    op = matrix.op
    assert isinstance(op, Dequantize), "a matrix with a format"
    more = op.shift if op.zero is None else op.zero
    return evaluate(op.x), evaluate(op.scale), None if more is None else evaluate(more)


def lookups_of_matrices(graph: Graph) -> Graph:
    """`graph` where rows of what is stored, dequantized, are rows of the dequantized matrix: they
    are looked up in the blocks that a product reads, or in blocks of their own."""
    matrices = {
        _stored_name(op.x): op.result
        for op in graph.ops
        if isinstance(op, Dequantize) and _stored_name(op.x)
    }

    def rewrite(op: Op) -> Op | None:
        if not isinstance(op, Dequantize):
            return None
        rows = op.x.op.operands[0].op if isinstance(op.x.op, Unpack4) else op.x.op
        if not isinstance(rows, Embedding) or not isinstance(rows.table.op, Weight):
            return None
        name = rows.table.op.name
        if name not in matrices:
            whole = op.map_operands(_table)
            if format_of(whole.result) is None:
                return None
            matrices[name] = whole.result
        return Embedding(matrices[name], rows.ids, loc=op.loc)

    return rebuild(graph, rewrite)


def _table(rows: Value) -> Value:
    """What `rows` are rows of."""
    op = rows.op
    if isinstance(op, Unpack4):
        return op.replace(x=_table(op.x)).result
    assert isinstance(op, Embedding), "rows of codes come with rows of their scales"
    return op.table


def _stored_name(value: Value) -> str:
    """The weight that holds the integers of a matrix; empty where they are none."""
    op = value.op
    if isinstance(op, Unpack4):
        return _stored_name(op.x)
    return op.name if isinstance(op, Weight) else ""
