"""Matrix products."""

from __future__ import annotations

import numpy as np

from hetc.ir.op import Cost, Op, Value, op
from hetc.ir.ops.elementwise_base import as_f32, broadcast_shapes
from hetc.ir.types import Array, TensorType


@op("matmul")
class MatMul(Op):
    """`a[..., M, K] @ b[..., K, N]`, leading axes broadcast; accumulates in f32."""

    a: Value
    b: Value

    def infer(self) -> TensorType:
        self.require(self.a.rank >= 2 and self.b.rank >= 2, "both operands need two axes")
        self.require(self.a.dtype is self.b.dtype, "operands must have one dtype")
        self.require(self.a.shape[-1] == self.b.shape[-2], "inner axes differ")
        batch = broadcast_shapes(self.a.shape[:-2], self.b.shape[:-2])
        self.require(batch is not None, "leading axes do not broadcast")
        assert batch is not None
        return TensorType(self.a.dtype, (*batch, self.a.shape[-2], self.b.shape[-1]))

    def cost(self) -> Cost:
        base = super().cost()
        return Cost(2 * self.result.size * self.a.shape[-1], base.bytes_read, base.bytes_written)

    def semantics(self, a: Array, b: Array) -> Array:
        result: Array = (as_f32(a) @ as_f32(b)).astype(a.dtype)
        return result


@op("linear")
class Linear(Op):
    """`x[..., K] @ weight[N, K]^T + bias[N]`; accumulates in f32."""

    x: Value
    weight: Value
    bias: Value | None = None

    def infer(self) -> TensorType:
        self.require(self.weight.rank == 2 and self.x.rank >= 1, "the weight is [N, K]")
        self.require(self.x.shape[-1] == self.weight.shape[1], "inner axes differ")
        self.require(self.x.dtype is self.weight.dtype, "operands must have one dtype")
        if self.bias is not None:
            self.require(self.bias.shape == self.weight.shape[:1], "the bias is [N]")
        return TensorType(self.x.dtype, (*self.x.shape[:-1], self.weight.shape[0]))

    def cost(self) -> Cost:
        base = super().cost()
        return Cost(2 * self.x.size * self.weight.shape[0], base.bytes_read, base.bytes_written)

    def semantics(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        result: Array = as_f32(x) @ as_f32(weight).T
        return (result if bias is None else result + as_f32(bias)).astype(x.dtype)


@op("expert_linear")
class ExpertLinear(Op):
    """Each row of `x[R, K]` times its expert's matrix: `x[r] @ weight[ids[r]]^T + bias[ids[r]]`.

    `weight` is `[E, N, K]`, or `[E, K, N]` with `transposed`; `ids` is `[R]`. The meaning is local
    to a row: a backend may gather matrices (decode) or sort rows by expert and run a grouped
    product (prefill).
    """

    x: Value
    weight: Value
    ids: Value
    bias: Value | None = None
    transposed: bool = False

    @property
    def inner_outer(self) -> tuple[int, int]:
        """Axes of the weight that hold K and N."""
        return (1, 2) if self.transposed else (2, 1)

    def infer(self) -> TensorType:
        inner, outer = self.inner_outer
        self.require(
            self.x.rank == 2 and self.weight.rank == 3 and self.ids.rank == 1,
            "x[R,K], weight[E,.,.], ids[R]",
        )
        self.require(self.x.shape[1] == self.weight.shape[inner], "inner axes differ")
        self.require(self.x.dtype is self.weight.dtype, "operands must have one dtype")
        self.require(self.ids.dtype.is_int, "expert ids are integers")
        if self.bias is not None:
            biases = (self.weight.shape[0], self.weight.shape[outer])
            self.require(self.bias.shape == biases, "the bias is [E, N]")
        self.require(self.x.shape[0] == self.ids.shape[0], "one expert id per row")
        return TensorType(self.x.dtype, (self.x.shape[0], self.weight.shape[outer]))

    def cost(self) -> Cost:
        inner, outer = self.inner_outer
        matrix = self.weight.shape[inner] * self.weight.shape[outer]
        rows = self.x.shape[0]
        # An upper bound on weight bytes: one matrix per row. The cost pass caps it at all experts.
        moved = rows * matrix * (self.weight.dtype.bits // 8) + self.x.nbytes + self.ids.nbytes
        return Cost(2 * rows * matrix, moved, self.result.nbytes)

    def semantics(self, x: Array, weight: Array, ids: Array, bias: Array | None = None) -> Array:
        wide = as_f32(x)
        result: Array = np.zeros((x.shape[0], weight.shape[self.inner_outer[1]]), wide.dtype)
        for expert in np.unique(ids):
            rows = ids == expert
            matrix = as_f32(weight[expert])
            result[rows] = wide[rows] @ (matrix if self.transposed else matrix.T)
        return (result if bias is None else result + as_f32(bias)[ids]).astype(x.dtype)
