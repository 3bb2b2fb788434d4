"""Reductions, running sums and softmax. Axes count from the front or, negative, from the back."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from hetc.ir.op import Cost, Op, Value, op
from hetc.ir.ops.elementwise_base import as_f32
from hetc.ir.types import BOOL, I64, Array, DType, TensorType


class Reduce(Op):
    """One result per group of elements along `axes`; with `keepdim` the axes stay with length 1."""

    x: Value
    axes: tuple[int, ...]
    keepdim: bool = False
    result_dtype: ClassVar[DType | None] = None

    def infer(self) -> TensorType:
        axes = {self.require_axis(axis, self.x) for axis in self.axes}
        self.require(len(axes) == len(self.axes), "axes must differ")
        dims = [(axis in axes, dim) for axis, dim in enumerate(self.x.shape)]
        shape = tuple(1 if gone else dim for gone, dim in dims if self.keepdim or not gone)
        return TensorType(self.result_dtype or self.x.dtype, shape)

    def cost(self) -> Cost:
        base = super().cost()
        return Cost(self.x.size, base.bytes_read, base.bytes_written)

    def semantics(self, x: Array) -> Array:
        result = self.reduce(as_f32(x))
        return np.asarray(result, dtype=(self.result_dtype or self.result.dtype).numpy)

    def reduce(self, x: Array) -> object:
        raise NotImplementedError(self.kind)


@op("sum")
class Sum(Reduce):
    x: Value
    axes: tuple[int, ...]
    keepdim: bool = False

    def reduce(self, x: Array) -> object:
        return np.sum(x, axis=self.axes, keepdims=self.keepdim)


@op("mean")
class Mean(Reduce):
    x: Value
    axes: tuple[int, ...]
    keepdim: bool = False

    def reduce(self, x: Array) -> object:
        return np.mean(x, axis=self.axes, keepdims=self.keepdim)


@op("reduce_max")
class ReduceMax(Reduce):
    x: Value
    axes: tuple[int, ...]
    keepdim: bool = False

    def reduce(self, x: Array) -> object:
        return np.max(x, axis=self.axes, keepdims=self.keepdim)


@op("reduce_min")
class ReduceMin(Reduce):
    x: Value
    axes: tuple[int, ...]
    keepdim: bool = False

    def reduce(self, x: Array) -> object:
        return np.min(x, axis=self.axes, keepdims=self.keepdim)


@op("prod")
class Prod(Reduce):
    x: Value
    axes: tuple[int, ...]
    keepdim: bool = False

    def reduce(self, x: Array) -> object:
        return np.prod(x, axis=self.axes, keepdims=self.keepdim)


@op("any")
class Any(Reduce):
    """Whether some element is true or nonzero."""

    x: Value
    axes: tuple[int, ...]
    keepdim: bool = False
    result_dtype = BOOL

    def reduce(self, x: Array) -> object:
        return np.any(x, axis=self.axes, keepdims=self.keepdim)


@op("all")
class All(Reduce):
    """Whether every element is true or nonzero."""

    x: Value
    axes: tuple[int, ...]
    keepdim: bool = False
    result_dtype = BOOL

    def reduce(self, x: Array) -> object:
        return np.all(x, axis=self.axes, keepdims=self.keepdim)


@op("logsumexp")
class LogSumExp(Reduce):
    """log(sum(exp(x))), computed without overflow."""

    x: Value
    axes: tuple[int, ...]
    keepdim: bool = False

    def reduce(self, x: Array) -> object:
        top = np.max(x, axis=self.axes, keepdims=True)
        shift = np.where(np.isfinite(top), top, 0)
        with np.errstate(divide="ignore"):
            total = np.log(np.sum(np.exp(x - shift), axis=self.axes, keepdims=True))
        result: Array = total + shift
        return result if self.keepdim else np.squeeze(result, axis=self.axes)


@op("argmax")
class ArgMax(Op):
    """Index (i64) of the first largest element along `axis`."""

    x: Value
    axis: int
    keepdim: bool = False

    def infer(self) -> TensorType:
        axis = self.require_axis(self.axis, self.x)
        kept = (1,) if self.keepdim else ()
        return TensorType(I64, (*self.x.shape[:axis], *kept, *self.x.shape[axis + 1 :]))

    def semantics(self, x: Array) -> Array:
        result: Array = np.argmax(as_f32(x), axis=self.axis, keepdims=self.keepdim)
        return result


@op("argmin")
class ArgMin(ArgMax):
    """Index (i64) of the first smallest element along `axis`."""

    x: Value
    axis: int
    keepdim: bool = False

    def semantics(self, x: Array) -> Array:
        result: Array = np.argmin(as_f32(x), axis=self.axis, keepdims=self.keepdim)
        return result


@op("cumsum")
class CumSum(Op):
    """Inclusive running sum along `axis`; bools count as i64."""

    x: Value
    axis: int

    def infer(self) -> TensorType:
        self.require_axis(self.axis, self.x)
        return self.x.type.with_dtype(I64) if self.x.dtype is BOOL else self.x.type

    def cost(self) -> Cost:
        base = super().cost()
        return Cost(self.x.size, base.bytes_read, base.bytes_written)

    def semantics(self, x: Array) -> Array:
        return np.cumsum(as_f32(x), axis=self.axis).astype(self.result.dtype.numpy)


@op("softmax")
class Softmax(Op):
    """exp(x) / sum(exp(x)) along `axis`, in f32 inside. A row of -inf throughout gives NaN, and
    zeros if it is `safe`."""

    x: Value
    axis: int
    safe: bool = False

    def infer(self) -> TensorType:
        self.require(self.x.dtype.is_float, "softmax needs floats")
        self.require_axis(self.axis, self.x)
        return self.x.type

    def cost(self) -> Cost:
        base = super().cost()
        return Cost(12 * self.x.size, base.bytes_read, base.bytes_written)

    def semantics(self, x: Array) -> Array:
        return softmax(as_f32(x), self.axis, safe=self.safe).astype(x.dtype)


@op("log_softmax")
class LogSoftmax(Op):
    """log(softmax(x)) along `axis`."""

    x: Value
    axis: int

    def infer(self) -> TensorType:
        self.require(self.x.dtype.is_float, "log_softmax needs floats")
        self.require_axis(self.axis, self.x)
        return self.x.type

    def cost(self) -> Cost:
        base = super().cost()
        return Cost(12 * self.x.size, base.bytes_read, base.bytes_written)

    def semantics(self, x: Array) -> Array:
        wide = as_f32(x)
        shifted = wide - np.max(wide, axis=self.axis, keepdims=True, initial=-np.inf)
        total = np.sum(np.exp(shifted), axis=self.axis, keepdims=True)
        result: Array = (shifted - np.log(total)).astype(x.dtype)
        return result


def softmax(x: Array, axis: int, *, safe: bool = True) -> Array:
    """Softmax of an f32 or f64 array; if `safe` a row of -inf gives zeros: a masked row adds
    nothing."""
    top = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    weights = np.exp(x - np.where(np.isfinite(top), top, 0).astype(x.dtype))
    total = np.sum(weights, axis=axis, keepdims=True)
    if safe:
        total = np.where(total == 0, np.asarray(1, x.dtype), total)
    with np.errstate(invalid="ignore"):
        result: Array = weights / total
    return result
