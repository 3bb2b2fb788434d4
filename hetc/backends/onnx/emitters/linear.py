"""Matrix products."""

from __future__ import annotations

from hetc.backends.onnx.table import Context, emits
from hetc.backends.onnx.writer import CONTRIB
from hetc.ir.ops.linear import ExpertLinear, Linear, MatMul


@emits(MatMul, kernels=("MatMul",))
def matmul(c: Context, op: MatMul) -> str:
    return c.w.typed("MatMul", op.a.dtype, c.w[op.a], c.w[op.b])


@emits(Linear, kernels=("FusedMatMul",))
def linear(c: Context, op: Linear) -> str:
    product = c.w.node("FusedMatMul", c.w[op.x], c.w[op.weight], domain=CONTRIB, transB=1)
    return product if op.bias is None else c.w.node("Add", product, c.w[op.bias])


@emits(ExpertLinear, kernels=("FusedMatMul",))
def expert_linear(c: Context, op: ExpertLinear) -> str:
    ids = c.w[op.ids]
    matrices = c.w.node("Gather", c.w[op.weight], ids, axis=0)
    rows = c.w.node("Unsqueeze", c.w[op.x], c.w.ints([1]))
    turned = 0 if op.transposed else 1
    product = c.w.node("FusedMatMul", rows, matrices, domain=CONTRIB, transB=turned)
    result = c.w.node("Squeeze", product, c.w.ints([1]))
    if op.bias is None:
        return result
    return c.w.node("Add", result, c.w.node("Gather", c.w[op.bias], ids, axis=0))
