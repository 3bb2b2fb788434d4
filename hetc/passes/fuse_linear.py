"""Fuse linear layers: a product with a transposed weight, and the bias after it, become one
`linear`."""

from __future__ import annotations

from hetc.ir.graph import Graph, rebuild
from hetc.ir.op import Op, Value
from hetc.ir.ops.elementwise import Add
from hetc.ir.ops.linear import Linear, MatMul
from hetc.ir.ops.shape import Reshape, Transpose
from hetc.passes.index_only import IndexOnly
from hetc.passes.rewrite import fit


def fuse_linear(graph: Graph) -> Graph:
    """`x @ w^T`, `reshape(linear(reshape(x)))` and `linear(x) + b` become `linear(x, w, b)`."""
    index_only = IndexOnly()

    def step(op: Op) -> tuple[Value, ...] | None:
        lifted: Op | None = None
        if isinstance(op, MatMul):
            lifted = _transposed(op)
        elif isinstance(op, Add):
            lifted = _biased(op, index_only)
        elif isinstance(op, Reshape):
            lifted = _unflattened(op)
        return None if lifted is None else fit(lifted, op)

    return rebuild(graph, step)


def _transposed(op: MatMul) -> Op | None:
    turned = op.b.op
    if isinstance(turned, Transpose) and turned.perm == (1, 0) and op.b.rank == 2:
        return Linear(op.a, turned.x, loc=op.loc)
    return None


def _biased(op: Add, index_only: IndexOnly) -> Op | None:
    for product, bias in ((op.x, op.y), (op.y, op.x)):
        if not (isinstance(product, Value) and isinstance(bias, Value)):
            return None
        linear = product.op
        if not isinstance(linear, Linear) or linear.bias is not None or not index_only(bias):
            continue
        if bias.shape == linear.result.shape[-1:] and bias.dtype is linear.result.dtype:
            return linear.replace(bias=bias)
    return None


def _unflattened(op: Reshape) -> Op | None:
    """reshape(linear(reshape(x, [B*S, K])), [B, S, N])  ->  linear(x): the token axis stays an
    axis."""
    linear = op.x.op
    if not isinstance(linear, Linear) or not isinstance(linear.x.op, Reshape) or linear.x.rank != 2:
        return None
    source = linear.x.op.x
    if source.shape[:-1] == op.shape[:-1] and source.shape[-1] == linear.x.shape[-1]:
        same = op.shape[-1] == linear.result.shape[-1]
        return linear.replace(x=source) if same else None
    return None
