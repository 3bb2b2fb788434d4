"""Lift mixtures of experts: a matrix picked for each row and multiplied becomes `expert_linear`."""

from __future__ import annotations

from hetc.ir.graph import Graph, rebuild
from hetc.ir.op import Op, Value
from hetc.ir.ops.elementwise import Add
from hetc.ir.ops.index import Gather, Index
from hetc.ir.ops.linear import ExpertLinear, MatMul
from hetc.ir.ops.shape import Reshape, Transpose
from hetc.passes.rewrite import fit, skip_casts


def lift_moe(graph: Graph) -> Graph:
    """`x[R,1,K] @ weight[ids]` and its bias `+ bias[ids]` become `expert_linear`, whose meaning is
    local to a row."""

    def step(op: Op) -> tuple[Value, ...] | None:
        lifted: Op | None = None
        if isinstance(op, MatMul):
            lifted = _product(op)
        elif isinstance(op, Add):
            lifted = _bias(op)
        return None if lifted is None else fit(lifted, op)

    return rebuild(graph, step)


def _picked(value: Value) -> tuple[Value, Value] | None:
    """The table and the ids of `table[ids]` along the first axis."""
    op = skip_casts(value).op
    if isinstance(op, Index) and op.axes == (0,) and op.ids[0].rank == 1:
        return op.x, op.ids[0]
    if isinstance(op, Gather) and op.axis == 0 and op.ids.rank == 1:
        return op.x, op.ids
    return None


def _matrix(value: Value) -> tuple[Value, Value, bool] | None:
    """Table, ids, and whether the picked matrices were transposed."""
    op = value.op
    if isinstance(op, Transpose) and op.perm == (0, 2, 1):
        found = _picked(op.x)
        return None if found is None else (*found, True)
    found = _picked(value)
    if found is None:
        return None
    table, ids = found
    if isinstance(table.op, Transpose) and table.op.perm == (0, 2, 1):
        return table.op.x, ids, True
    return table, ids, False


def _product(op: MatMul) -> Op | None:
    found, rows = _matrix(op.b), op.a
    row_first = True
    if found is None:
        # The product may also stand the other way round, with x as a column.
        found, rows, row_first = _matrix(op.a), op.b, False
    if found is None or rows.rank != 3 or rows.shape[1 if row_first else 2] != 1:
        return None
    table, ids, turned = found
    if table.rank != 3 or rows.dtype is not table.dtype:
        return None
    flat = Reshape(rows, (rows.shape[0], rows.shape[2 if row_first else 1]), loc=op.loc)
    # x @ W is `transposed` (W is [K, N]); W @ x is not.
    lifted = ExpertLinear(flat.result, table, ids, transposed=row_first != turned, loc=op.loc)
    return Reshape(lifted.result, op.result.shape, loc=op.loc)


def _bias(op: Add) -> Op | None:
    for product, bias in ((op.x, op.y), (op.y, op.x)):
        if not (isinstance(product, Value) and isinstance(bias, Value)):
            return None
        inner = _unshaped(product).op
        found = _picked(_unshaped(bias))
        if isinstance(inner, ExpertLinear) and inner.bias is None and found is not None:
            table, ids = found
            if ids is inner.ids and table.rank == 2:
                fused = inner.replace(bias=table)
                same = op.result.shape == fused.result.shape
                return fused if same else Reshape(fused.result, op.result.shape, loc=op.loc)
    return None


def _unshaped(value: Value) -> Value:
    value = skip_casts(value)
    while isinstance(value.op, Reshape):
        value = skip_casts(value.op.x)
    return value
