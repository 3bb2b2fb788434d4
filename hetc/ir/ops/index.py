"""Ops that read or write by index, and orderings."""

from __future__ import annotations

import numpy as np

from hetc.ir.op import Cost, Op, Value, op
from hetc.ir.ops.elementwise import as_f32, broadcast_shapes
from hetc.ir.ops.shape import normalize_axis
from hetc.ir.types import I64, Array, TensorType


@op("embedding")
class Embedding(Op):
    """Rows of `table [N, H]` picked by the integers `ids`: `[..., H]`."""

    table: Value
    ids: Value

    def infer(self) -> TensorType:
        self.require(self.table.rank == 2 and self.ids.dtype.is_int, "table[N,H] and integer ids")
        return TensorType(self.table.dtype, (*self.ids.shape, self.table.shape[1]))

    def cost(self) -> Cost:
        return Cost(0, self.result.nbytes + self.ids.nbytes, self.result.nbytes)

    def semantics(self, table: Array, ids: Array) -> Array:
        return table[ids]


@op("gather")
class Gather(Op):
    """Slices of `x` along `axis` picked by integer `ids` of any shape (NumPy's take)."""

    x: Value
    ids: Value
    axis: int = 0

    def infer(self) -> TensorType:
        self.require(self.ids.dtype.is_int, "indices must be integers")
        axis = normalize_axis(self.axis, self.x.rank)
        return TensorType(
            self.x.dtype, (*self.x.shape[:axis], *self.ids.shape, *self.x.shape[axis + 1 :])
        )

    def cost(self) -> Cost:
        return Cost(0, self.result.nbytes + self.ids.nbytes, self.result.nbytes)

    def semantics(self, x: Array, ids: Array) -> Array:
        return np.take(x, ids, axis=self.axis)


@op("take_along")
class TakeAlong(Op):
    """Element by element along `axis` (torch.gather, ONNX GatherElements): the result has the shape of `ids`."""

    x: Value
    ids: Value
    axis: int

    def infer(self) -> TensorType:
        self.require(self.x.rank == self.ids.rank, "x and ids must have one rank")
        return TensorType(self.x.dtype, self.ids.shape)

    def semantics(self, x: Array, ids: Array) -> Array:
        cut = [
            slice(None) if a == self.axis % x.ndim else slice(0, n) for a, n in enumerate(ids.shape)
        ]
        return np.take_along_axis(x[tuple(cut)], ids, axis=self.axis)


@op("put_along")
class PutAlong(Op):
    """A copy of `x` in which the elements that `ids` names along `axis` are `updates` (torch.scatter)."""

    x: Value
    ids: Value
    updates: Value
    axis: int

    def infer(self) -> TensorType:
        fits = broadcast_shapes(self.updates.shape, self.ids.shape) == self.ids.shape
        self.require(
            self.x.rank == self.ids.rank and fits, "updates must broadcast to the shape of ids"
        )
        self.require(self.x.dtype is self.updates.dtype, "updates must have the dtype of x")
        return self.x.type

    def semantics(self, x: Array, ids: Array, updates: Array) -> Array:
        result = x.copy()
        index = list(np.indices(ids.shape, sparse=True))
        index[self.axis % x.ndim] = ids
        result[tuple(index)] = np.broadcast_to(updates, ids.shape)
        return result


@op("index")
class Index(Op):
    """NumPy's advanced indexing: `axes[i]` of `x` is indexed by `ids[i]`; the index arrays broadcast together.

    The broadcast axes stand where the indexed ones stood if those are adjacent, else in front.
    """

    x: Value
    ids: tuple[Value, ...]
    axes: tuple[int, ...]

    def infer(self) -> TensorType:
        picked = broadcast_shapes(*(ids.shape for ids in self.ids))
        self.require(
            picked is not None and len(self.ids) == len(self.axes),
            "one index array per axis, broadcastable",
        )
        assert picked is not None
        kept = [dim for axis, dim in enumerate(self.x.shape) if axis not in self.axes]
        adjacent = self.axes == tuple(range(self.axes[0], self.axes[0] + len(self.axes)))
        front = self.axes[0] if adjacent else 0
        return TensorType(self.x.dtype, (*kept[:front], *picked, *kept[front:]))

    def cost(self) -> Cost:
        return Cost(0, self.result.nbytes, self.result.nbytes)

    def semantics(self, x: Array, *ids: Array) -> Array:
        return x[self.selector(x.ndim, ids)]

    def selector(self, rank: int, ids: tuple[Array, ...]) -> tuple[Array | slice, ...]:
        """The NumPy index expression."""
        index: list[Array | slice] = [slice(None)] * rank
        for axis, array in zip(self.axes, ids, strict=True):
            index[axis] = array
        return tuple(index)


@op("index_put")
class IndexPut(Op):
    """A copy of `x` with `updates` written (or, with `accumulate`, added) where `ids` index `axes`."""

    x: Value
    updates: Value
    ids: tuple[Value, ...]
    axes: tuple[int, ...]
    accumulate: bool = False

    def infer(self) -> TensorType:
        self.require(len(self.ids) == len(self.axes), "one index array per axis")
        return self.x.type

    def semantics(self, x: Array, updates: Array, *ids: Array) -> Array:
        result = x.copy()
        index: list[Array | slice] = [slice(None)] * x.ndim
        for axis, array in zip(self.axes, ids, strict=True):
            index[axis] = array
        if self.accumulate:
            np.add.at(result, tuple(index), updates)
        else:
            result[tuple(index)] = updates
        return result


@op("topk")
class TopK(Op):
    """The `k` largest elements along `axis`, largest first, and their indices (i64); ties go to the lower index."""

    x: Value
    k: int
    axis: int = -1
    largest: bool = True

    def infer(self) -> tuple[TensorType, TensorType]:
        axis = normalize_axis(self.axis, self.x.rank)
        shape = (*self.x.shape[:axis], self.k, *self.x.shape[axis + 1 :])
        return TensorType(self.x.dtype, shape), TensorType(I64, shape)

    def semantics(self, x: Array) -> tuple[Array, Array]:
        wide = as_f32(x)
        order = np.argsort(-wide if self.largest else wide, axis=self.axis, kind="stable")
        ids = np.take(order, np.arange(self.k), axis=self.axis)
        return np.take_along_axis(x, ids, axis=self.axis), ids


@op("sort")
class Sort(Op):
    """`x` in order along `axis`, and the indices (i64) that put it so; stable."""

    x: Value
    axis: int = -1
    descending: bool = False

    def infer(self) -> tuple[TensorType, TensorType]:
        return self.x.type, self.x.type.with_dtype(I64)

    def semantics(self, x: Array) -> tuple[Array, Array]:
        wide = as_f32(x)
        keys = (
            -wide if self.descending and x.dtype.kind != "b" else ~wide if self.descending else wide
        )
        ids = np.argsort(keys, axis=self.axis, kind="stable")
        return np.take_along_axis(x, ids, axis=self.axis), ids
