"""Weights, constants, ranges."""

from __future__ import annotations

import numpy as np

from hetc.backends.onnx.table import Context, emits
from hetc.ir.dims import Dim
from hetc.ir.ops.source import Constant, Full, Iota, Weight
from hetc.ir.types import BOOL, I64


@emits(Weight)
def weight(c: Context, op: Weight) -> str:
    c.w.weights[op.name] = op.type
    return op.name


@emits(Constant)
def constant(c: Context, op: Constant) -> str:
    return c.w.constant(np.asarray(op.data, dtype=op.dtype.numpy), op.dtype)


def _no_range(op: Iota) -> str | None:
    return (
        "a range of bools"
        if op.dtype is BOOL
        else "a range that stands still"
        if not op.step
        else None
    )


@emits(Iota, refuse=_no_range)
def iota(c: Context, op: Iota) -> str:
    start, size = op.start, op.size
    if isinstance(start, int) and isinstance(size, int):
        return c.w.constant((np.arange(size) * op.step + start).astype(op.dtype.numpy), op.dtype)
    limit = c.sizes.scalar(start + size * op.step)
    counted = c.w.node("Range", c.sizes.scalar(start), limit, c.w.constant(op.step, I64))
    return counted if op.dtype is I64 else c.w.cast(counted, op.dtype)


@emits(Full)
def full(c: Context, op: Full) -> str:
    if isinstance(op.value, Dim):
        filler = c.sizes.scalar(op.value, op.dtype)
    else:
        # Through the op's own type first: what it rounds away must stay away.
        filler = c.w.constant(np.asarray(op.value, dtype=op.dtype.numpy), op.dtype)
    return c.sizes.expand(filler, (), op.shape)
