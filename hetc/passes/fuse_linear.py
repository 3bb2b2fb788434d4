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
    """`x @ w^T`, `(w @ x^T)^T`, `reshape(linear(reshape(x)))` and `linear(x) + b` become
    `linear(x, w, b)`."""
    index_only = IndexOnly()

    def step(op: Op) -> tuple[Value, ...] | None:
        lifted: Op | None = None
        if isinstance(op, MatMul):
            lifted = _transposed(op) or _from_the_left(op, index_only)
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


def _from_the_left(op: MatMul, index_only: IndexOnly) -> Op | None:
    """w @ x  ->  (x^T @ w^T)^T: features stand beside tokens, as Mamba has them, and weights on the
    right, where everybody looks for them."""
    if min(op.a.rank, op.b.rank) < 2 or not index_only(op.a) or index_only(op.b):
        return None
    turned = _turned(op.b, op.loc).result
    if op.a.rank == 2:
        return _turned(Linear(turned, op.a, loc=op.loc).result, op.loc)
    weight = _turned(op.a, op.loc).result
    return _turned(MatMul(turned, weight, loc=op.loc).result, op.loc)


def _turned(x: Value, loc: str) -> Transpose:
    """`x` with its last two axes swapped."""
    *rest, row, column = range(x.rank)
    return Transpose(x, (*rest, column, row), loc=loc)


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
