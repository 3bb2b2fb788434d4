"""Ops that move or view elements without arithmetic. Shapes may hold symbolic dims."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from hetc.ir.dims import DimLike, evaluate
from hetc.ir.op import Cost, Op, Value, op
from hetc.ir.ops.elementwise_base import broadcast_shapes
from hetc.ir.types import Array, Shape, TensorType


def normalize_axis(axis: int, rank: int) -> int:
    """`axis` counted from the front."""
    return axis + rank if axis < 0 else axis


def numbers(dims: Iterable[DimLike]) -> tuple[int, ...]:
    """Dims that are numbers by now, as ints; raises IRError (HETC-X002) where one is not."""
    return tuple(evaluate(dim, {}) for dim in dims)


class View(Op):
    """A layout change that costs nothing on any target that hetc models."""

    x: Value

    def cost(self) -> Cost:
        return Cost()


@op("reshape")
class Reshape(View):
    """The same elements in row-major order under another shape."""

    x: Value
    shape: Shape

    def infer(self) -> TensorType:
        result = TensorType(self.x.dtype, self.shape)
        self.require(
            result.size == self.x.size, f"{self.x.type} has not as many elements as {result}"
        )
        return result

    def semantics(self, x: Array) -> Array:
        return x.reshape(numbers(self.shape))


@op("transpose")
class Transpose(View):
    """Axis i of the result is axis `perm[i]` of `x`."""

    x: Value
    perm: tuple[int, ...]

    def infer(self) -> TensorType:
        self.require(
            sorted(self.perm) == list(range(self.x.rank)), "perm must name every axis once"
        )
        return TensorType(self.x.dtype, tuple(self.x.shape[axis] for axis in self.perm))

    def semantics(self, x: Array) -> Array:
        return np.transpose(x, self.perm)


@op("broadcast")
class Broadcast(View):
    """`x` repeated along axes of length 1, and along new leading axes, to `shape`."""

    x: Value
    shape: Shape

    def infer(self) -> TensorType:
        self.require(
            broadcast_shapes(self.x.shape, self.shape) == tuple(self.shape),
            f"cannot broadcast to {self.shape}",
        )
        return TensorType(self.x.dtype, self.shape)

    def semantics(self, x: Array) -> Array:
        return np.broadcast_to(x, numbers(self.shape))


@op("slice")
class Slice(View):
    """Elements `start, start+step, ...` below `stop` along one axis.

    The bounds lie inside the axis, and `step` is positive.
    """

    x: Value
    axis: int
    start: DimLike = 0
    stop: DimLike | None = None
    step: int = 1

    def infer(self) -> TensorType:
        axis = self.require_axis(self.axis, self.x)
        size = self.x.shape[axis]
        stop = size if self.stop is None else self.stop
        self.require(self.step > 0, "the step must be positive")
        for bound in (self.start, stop):
            beyond = isinstance(bound, int) and isinstance(size, int) and bound > size
            self.require(not beyond, f"{bound} is beyond the axis")
            self.require(not isinstance(bound, int) or bound >= 0, f"{bound} is before the axis")
        length = stop - self.start
        if isinstance(length, int):
            length = max(0, -(-length // self.step))
        else:
            self.require(self.step == 1, "a stepped slice needs static bounds")
            steps_back = all(factor < 0 for _, factor in length.terms)
            self.require(not steps_back, "the slice would have a negative length")
        shape = (*self.x.shape[:axis], length, *self.x.shape[axis + 1 :])
        return TensorType(self.x.dtype, shape)

    def semantics(self, x: Array) -> Array:
        index = [slice(None)] * x.ndim
        index[self.axis] = slice(self.start, self.stop, self.step)
        result: Array = x[tuple(index)]
        return result


@op("concat")
class Concat(Op):
    """`xs` one after the other along `axis`."""

    xs: tuple[Value, ...]
    axis: int

    def infer(self) -> TensorType:
        self.require(bool(self.xs), "there is nothing to put together")
        first = self.xs[0]
        axis = self.require_axis(self.axis, first)
        length: DimLike = 0
        for x in self.xs:
            rest = (x.dtype, x.shape[:axis], x.shape[axis + 1 :])
            same = (first.dtype, first.shape[:axis], first.shape[axis + 1 :])
            self.require(rest == same, "parts must agree on dtype and the other axes")
            length = length + x.shape[axis]
        return TensorType(first.dtype, (*first.shape[:axis], length, *first.shape[axis + 1 :]))

    def semantics(self, *xs: Array) -> Array:
        return np.concatenate(xs, axis=self.axis)


@op("split")
class Split(View):
    """`x` cut along `axis` into parts of the given sizes."""

    x: Value
    axis: int
    sizes: tuple[DimLike, ...]

    def infer(self) -> tuple[TensorType, ...]:
        axis = self.require_axis(self.axis, self.x)
        total: DimLike = 0
        for size in self.sizes:
            total = total + size
        self.require(total == self.x.shape[axis], "sizes must add up to the axis")
        front, back = self.x.shape[:axis], self.x.shape[axis + 1 :]
        return tuple(TensorType(self.x.dtype, (*front, size, *back)) for size in self.sizes)

    def semantics(self, x: Array) -> tuple[Array, ...]:
        return tuple(np.split(x, np.cumsum(numbers(self.sizes))[:-1], axis=self.axis))


@op("pad")
class Pad(Op):
    """`low[i]` and `high[i]` elements `value` added before and after axis i; negative ones crop."""

    x: Value
    low: tuple[DimLike, ...]
    high: tuple[DimLike, ...]
    value: float | int | bool = 0

    def infer(self) -> TensorType:
        self.require(len(self.low) == len(self.high) == self.x.rank, "one pair of widths per axis")
        shape = tuple(
            low + dim + high
            for low, dim, high in zip(self.low, self.x.shape, self.high, strict=True)
        )
        return TensorType(self.x.dtype, shape)

    def semantics(self, x: Array) -> Array:
        pairs = list(zip(numbers(self.low), numbers(self.high), strict=True))
        crop = tuple(
            slice(max(0, -low), dim - max(0, -high))
            for (low, high), dim in zip(pairs, x.shape, strict=True)
        )
        widths = [(max(0, low), max(0, high)) for low, high in pairs]
        return np.pad(x[crop], widths, constant_values=np.asarray(self.value, dtype=x.dtype))


@op("flip")
class Flip(View):
    """Elements in reverse order along `axes`."""

    x: Value
    axes: tuple[int, ...]

    def infer(self) -> TensorType:
        for axis in self.axes:
            self.require_axis(axis, self.x)
        return self.x.type

    def semantics(self, x: Array) -> Array:
        return np.flip(x, self.axes)


@op("tile")
class Tile(Op):
    """`x` repeated `repeats[i]` times along axis i, whole copies one after the other."""

    x: Value
    repeats: tuple[DimLike, ...]

    def infer(self) -> TensorType:
        self.require(len(self.repeats) == self.x.rank, "one count per axis")
        return TensorType(
            self.x.dtype, tuple(d * r for d, r in zip(self.x.shape, self.repeats, strict=True))
        )

    def semantics(self, x: Array) -> Array:
        return np.tile(x, numbers(self.repeats))
