"""Reductions, running sums and softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any as AnyOp

from hetc.backends.onnx.elements import computed, kernel_type
from hetc.backends.onnx.table import Context, emits
from hetc.ir.op import Op
from hetc.ir.ops.reduce import (
    All,
    Any,
    ArgMax,
    ArgMin,
    CumSum,
    LogSoftmax,
    LogSumExp,
    Mean,
    Prod,
    ReduceMax,
    ReduceMin,
    Softmax,
    Sum,
)
from hetc.ir.ops.shape import normalize_axis
from hetc.ir.types import BOOL, I32, I64, DType


def _reduced(onnx: str) -> Callable[[Context, AnyOp], str]:
    def emit(c: Context, op: AnyOp) -> str:
        if not op.axes:
            return c.w[op.x]
        axes = c.w.ints(list(op.axes))
        return _along(c, onnx, op, c.w[op.x], axes)

    return emit


def _along(c: Context, onnx: str, op: AnyOp, x: str, axes: str) -> str:
    dtype = op.x.dtype
    works = kernel_type(onnx, dtype)
    assert works is not None
    if works is computed(dtype):
        return c.w.node(onnx, x, axes, keepdims=int(op.keepdim))
    return c.w.cast(c.w.node(onnx, c.w.cast(x, works), axes, keepdims=int(op.keepdim)), dtype)


def _no_bools(op: AnyOp) -> str | None:
    return "arithmetic on bools" if op.x.dtype is BOOL else None


_REDUCTIONS: dict[type[Op], str] = {
    Sum: "ReduceSum",
    Mean: "ReduceMean",
    Prod: "ReduceProd",
    ReduceMax: "ReduceMax",
    ReduceMin: "ReduceMin",
}
for _op, _name in _REDUCTIONS.items():
    emits(_op, kernels=(_name,), refuse=_no_bools)(_reduced(_name))
emits(LogSumExp, kernels=("ReduceLogSumExp",))(_reduced("ReduceLogSumExp"))


@emits(Any)
def any_(c: Context, op: Any) -> str:
    return _truth(c, "ReduceMax", op)


@emits(All)
def all_(c: Context, op: All) -> str:
    return _truth(c, "ReduceMin", op)


def _truth(c: Context, onnx: str, op: Any | All) -> str:
    truth = c.w[op.x] if op.x.dtype is BOOL else c.w.cast(c.w[op.x], BOOL)
    if not op.axes:
        return truth
    counted = c.w.cast(truth, I32)
    reduced = c.w.node(onnx, counted, c.w.ints(list(op.axes)), keepdims=int(op.keepdim))
    return c.w.cast(reduced, BOOL)


@emits(ArgMax, kernels=("ArgMax",))
def argmax(c: Context, op: ArgMax) -> str:
    return _place(c, "ArgMax", op)


@emits(ArgMin, kernels=("ArgMin",))
def argmin(c: Context, op: ArgMin) -> str:
    return _place(c, "ArgMin", op)


def _place(c: Context, onnx: str, op: ArgMax) -> str:
    works = kernel_type(onnx, op.x.dtype)
    assert works is not None
    x = c.w[op.x] if works is computed(op.x.dtype) else c.w.cast(c.w[op.x], works)
    axis = normalize_axis(op.axis, op.x.rank)
    return c.w.node(onnx, x, axis=axis, keepdims=int(op.keepdim))


@emits(CumSum, kernels=("CumSum",))
def cumsum(c: Context, op: CumSum) -> str:
    x = c.w.cast(c.w[op.x], I64) if op.x.dtype is BOOL else c.w[op.x]
    return running_sum(c, x, normalize_axis(op.axis, op.x.rank), op.result.dtype)


def running_sum(c: Context, x: str, axis: int, dtype: DType) -> str:
    """The sums of `x`, of type `dtype`, up to each place along `axis`."""
    works = kernel_type("CumSum", dtype)
    assert works is not None
    along = c.w.constant(axis, I64)
    if works is computed(dtype):
        return c.w.node("CumSum", x, along)
    return c.w.cast(c.w.node("CumSum", c.w.cast(x, works), along), dtype)


@emits(Softmax, kernels=("Softmax", "IsInf"))
def softmax(c: Context, op: Softmax) -> str:
    # A row of -inf is NaN in ONNX. Where hetc writes attention itself, it knows which can be so.
    scores, axis = c.w[op.x], normalize_axis(op.axis, op.x.rank)
    if not op.safe:
        return c.w.node("Softmax", scores, axis=axis)
    hidden = c.w.cast(c.w.node("IsInf", scores, detect_positive=0), I32)
    row = c.w.cast(c.w.node("ReduceMin", hidden, c.w.ints([axis]), keepdims=1), BOOL)
    zero = c.w.constant(0, op.result.dtype)
    return c.w.node("Where", row, zero, c.w.node("Softmax", scores, axis=axis))


@emits(LogSoftmax, kernels=("LogSoftmax",))
def log_softmax(c: Context, op: LogSoftmax) -> str:
    return c.w.node("LogSoftmax", c.w[op.x], axis=normalize_axis(op.axis, op.x.rank))
