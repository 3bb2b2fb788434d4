"""Rotary position embedding."""

from __future__ import annotations

import numpy as np

from hetc.backends.onnx.emitters.shape import cut
from hetc.backends.onnx.table import Context, emits
from hetc.ir.ops.attention import Rope


@emits(Rope, kernels=("Mul",))
def rope(c: Context, op: Rope) -> str:
    width, last = op.cos.shape[-1], op.x.rank - 1
    assert isinstance(width, int)
    whole = width == op.x.shape[-1]
    part = c.w[op.x] if whole else cut(c, c.w[op.x], last, 0, width)
    # The sign of the turned half goes into the sine, which all layers share.
    signs = np.ones(width)
    signs[(slice(0, None, 2) if op.interleaved else slice(0, width // 2))] = -1
    sine = c.w.node("Mul", c.w[op.sin], c.w.constant(signs, op.x.dtype))
    turned = (
        _swapped_pairs(c, part, op) if op.interleaved else _swapped_halves(c, part, width, last)
    )
    rotated = c.w.node("Add", c.w.node("Mul", part, c.w[op.cos]), c.w.node("Mul", turned, sine))
    if whole:
        return rotated
    return c.w.node("Concat", rotated, cut(c, c.w[op.x], last, width), axis=-1)


def _swapped_halves(c: Context, part: str, width: int, last: int) -> str:
    sizes = c.w.ints([width // 2] * 2)
    first, second = c.w.split("Split", part, sizes, outputs=2, axis=last)
    return c.w.node("Concat", second, first, axis=last)


def _swapped_pairs(c: Context, part: str, op: Rope) -> str:
    width = op.cos.shape[-1]
    assert isinstance(width, int)
    order = np.arange(width).reshape(-1, 2)[:, ::-1].reshape(-1)
    return c.w.node("Gather", part, c.w.ints(order.tolist()), axis=-1)
