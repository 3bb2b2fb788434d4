"""Ops that read or write by index, and orderings."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from hetc.ir.dims import symbol
from hetc.ir.op import Cost, Op, Value, op
from hetc.ir.ops.elementwise_base import as_f32, broadcast_shapes
from hetc.ir.types import I64, Array, Shape, TensorType


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
        rows: Array = table[ids]
        return rows


@op("gather")
class Gather(Op):
    """Slices of `x` along `axis` picked by integer `ids` of any shape (NumPy's take)."""

    x: Value
    ids: Value
    axis: int = 0

    def infer(self) -> TensorType:
        self.require(self.ids.dtype.is_int, "indices must be integers")
        axis = self.require_axis(self.axis, self.x)
        return TensorType(
            self.x.dtype, (*self.x.shape[:axis], *self.ids.shape, *self.x.shape[axis + 1 :])
        )

    def cost(self) -> Cost:
        return Cost(0, self.result.nbytes + self.ids.nbytes, self.result.nbytes)

    def semantics(self, x: Array, ids: Array) -> Array:
        return np.take(x, ids, axis=self.axis)


@op("take_along")
class TakeAlong(Op):
    """Element by element along `axis` (torch.gather, ONNX GatherElements): as many as `ids`."""

    x: Value
    ids: Value
    axis: int

    def infer(self) -> TensorType:
        self.require(self.x.rank == self.ids.rank, "x and ids must have one rank")
        self.require(self.ids.dtype.is_int, "indices must be integers")
        self.require_axis(self.axis, self.x)
        return TensorType(self.x.dtype, self.ids.shape)

    def semantics(self, x: Array, ids: Array) -> Array:
        cut = [
            slice(None) if a == self.axis % x.ndim else slice(0, n) for a, n in enumerate(ids.shape)
        ]
        return np.take_along_axis(x[tuple(cut)], ids, axis=self.axis)


@op("put_along")
class PutAlong(Op):
    """A copy of `x` where elements that `ids` names along `axis` are `updates` (torch.scatter).

    With a `reduction` (`add`, `mul`, `max`, `min`) what stood there is one of its operands, and so
    are all updates of one place. With `none` it is undefined which of them stays.
    """

    x: Value
    ids: Value
    updates: Value
    axis: int
    reduction: str = "none"

    def infer(self) -> TensorType:
        fits = broadcast_shapes(self.updates.shape, self.ids.shape) == self.ids.shape
        self.require(
            self.x.rank == self.ids.rank and fits, "updates must broadcast to the shape of ids"
        )
        self.require(self.x.dtype is self.updates.dtype, "updates must have the dtype of x")
        self.require(self.ids.dtype.is_int, "indices must be integers")
        self.require(self.reduction in _REDUCTIONS, f"{self.reduction} is no reduction")
        self.require_axis(self.axis, self.x)
        return self.x.type

    def semantics(self, x: Array, ids: Array, updates: Array) -> Array:
        result, values = as_f32(x).copy(), np.broadcast_to(as_f32(updates), ids.shape)
        index: list[Array] = list(np.indices(ids.shape, sparse=True))
        index[self.axis % x.ndim] = ids
        combine = _REDUCTIONS[self.reduction]
        if combine is None:
            result[tuple(index)] = values
        else:
            combine.at(result, tuple(index), values)
        return result.astype(x.dtype)


_REDUCTIONS: dict[str, np.ufunc | None] = {
    "none": None,
    "add": np.add,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
}


@op("index")
class Index(Op):
    """NumPy's advanced indexing: `axes[i]` of `x` is indexed by `ids[i]`.

    The index arrays broadcast together. Their axes stand where the indexed ones stood if those are
    adjacent, else in front.
    """

    x: Value
    ids: tuple[Value, ...]
    axes: tuple[int, ...]

    def infer(self) -> TensorType:
        return TensorType(self.x.dtype, indexed_shape(self, self.x, self.ids, self.axes))

    def cost(self) -> Cost:
        return Cost(0, self.result.nbytes, self.result.nbytes)

    def semantics(self, x: Array, *ids: Array) -> Array:
        result: Array = x[selector(x.ndim, self.axes, ids)]
        return result


def indexed_shape(op: Op, x: Value, ids: tuple[Value, ...], axes: tuple[int, ...]) -> Shape:
    """The shape of `x` indexed by `ids` at `axes`; raises IRError (HETC-X010) naming `op`."""
    ascending = axes and all(a < b for a, b in itertools.pairwise((-1, *axes, x.rank)))
    if not ascending or len(ids) != len(axes):
        raise op.misfit("one index array for each of some axes, counted from the front, ascending")
    picked = broadcast_shapes(*[array.shape for array in ids])
    if picked is None or not all(array.dtype.is_int for array in ids):
        raise op.misfit("index arrays are integers that broadcast together")
    kept = [dim for axis, dim in enumerate(x.shape) if axis not in axes]
    front = axes[0] if axes[-1] - axes[0] == len(axes) - 1 else 0
    return (*kept[:front], *picked, *kept[front:])


def selector(rank: int, axes: tuple[int, ...], ids: tuple[Array, ...]) -> tuple[Any, ...]:
    """The NumPy index expression."""
    index: list[Any] = [slice(None)] * rank
    for axis, array in zip(axes, ids, strict=True):
        index[axis] = array
    return tuple(index)


@op("index_put")
class IndexPut(Op):
    """A copy of `x` with `updates` written (with `accumulate`, added) where `ids` index `axes`."""

    x: Value
    updates: Value
    ids: tuple[Value, ...]
    axes: tuple[int, ...]
    accumulate: bool = False

    def infer(self) -> TensorType:
        target = indexed_shape(self, self.x, self.ids, self.axes)
        fits = broadcast_shapes(self.updates.shape, target) == target
        self.require(fits, "updates must broadcast to the elements that ids pick")
        self.require(self.x.dtype is self.updates.dtype, "updates must have the dtype of x")
        return self.x.type

    def semantics(self, x: Array, updates: Array, *ids: Array) -> Array:
        result = x.copy()
        index = selector(x.ndim, self.axes, ids)
        if self.accumulate:
            np.add.at(result, index, updates)
        else:
            result[index] = updates
        return result


@op("nonzero")
class NonZero(Op):
    """Where `x` is not zero, in row-major order: `[count, rank of x]`, an i64 row of coordinates
    for each place.

    `count` names the size that the data decides; ops that follow may use it as any other.
    """

    x: Value
    count: str

    def infer(self) -> TensorType:
        return TensorType(I64, (symbol(self.count), self.x.rank))

    def cost(self) -> Cost:
        # At most every place is one of them.
        return Cost(self.x.size, self.x.nbytes, 8 * self.x.rank * self.x.size)

    def semantics(self, x: Array) -> Array:
        # A tensor without axes has one place, which has no coordinates.
        found = np.argwhere(as_f32(x))
        return found.astype(np.int64)


@op("topk")
class TopK(Op):
    """The `k` largest elements along `axis`, largest first, and their indices (i64).

    Not `largest`: the smallest, smallest first. Ties go to the lower index; NaN is the largest.
    """

    x: Value
    k: int
    axis: int = -1
    largest: bool = True

    def infer(self) -> tuple[TensorType, TensorType]:
        axis = self.require_axis(self.axis, self.x)
        length = self.x.shape[axis]
        self.require(not isinstance(length, int) or self.k <= length, "k exceeds the axis")
        shape = (*self.x.shape[:axis], self.k, *self.x.shape[axis + 1 :])
        return TensorType(self.x.dtype, shape), TensorType(I64, shape)

    def semantics(self, x: Array) -> tuple[Array, Array]:
        order = stable_order(x, self.axis, descending=self.largest)
        ids = np.take(order, np.arange(self.k), axis=self.axis)
        return np.take_along_axis(x, ids, axis=self.axis), ids


@op("sort")
class Sort(Op):
    """`x` in order along `axis`, and the indices (i64) that put it so; stable."""

    x: Value
    axis: int = -1
    descending: bool = False

    def infer(self) -> tuple[TensorType, TensorType]:
        self.require_axis(self.axis, self.x)
        return self.x.type, self.x.type.with_dtype(I64)

    def semantics(self, x: Array) -> tuple[Array, Array]:
        ids = stable_order(x, self.axis, descending=self.descending)
        return np.take_along_axis(x, ids, axis=self.axis), ids


def stable_order(x: Array, axis: int, *, descending: bool) -> Array:
    """Indices that sort `x`, equal elements in their order; NaN counts as the largest."""
    if not descending:
        return np.argsort(as_f32(x), axis=axis, kind="stable")
    # Negating the keys would not do for unsigned numbers and bools: sort the mirror image.
    order = np.argsort(np.flip(as_f32(x), axis), axis=axis, kind="stable")
    result: Array = x.shape[axis] - 1 - np.flip(order, axis)
    return result
