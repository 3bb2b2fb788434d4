"""Normalisations over the last axis."""

from __future__ import annotations

import numpy as np

from hetc.backends.onnx.table import Context, emits
from hetc.ir.dims import Dim
from hetc.ir.op import Value
from hetc.ir.ops.norm import LayerNorm, RMSNorm


def _no_scale(op: RMSNorm | LayerNorm) -> str | None:
    open_width = op.weight is None and isinstance(op.x.shape[-1], Dim)
    return "a width that is known at run time only" if open_width else None


def _scale(c: Context, weight: Value | None, op: RMSNorm | LayerNorm) -> str:
    width = op.x.shape[-1]
    if weight is not None:
        return c.w[weight]
    assert isinstance(width, int)
    return c.w.constant(np.ones(width), op.x.dtype)


@emits(RMSNorm, kernels=("RMSNormalization",), refuse=_no_scale)
def rms_norm(c: Context, op: RMSNorm) -> str:
    scale = _scale(c, op.weight, op)
    if op.offset and op.weight is not None:
        scale = c.w.node("Add", scale, c.w.constant(op.offset, op.x.dtype))
    return c.w.node("RMSNormalization", c.w[op.x], scale, axis=-1, epsilon=float(op.eps))


@emits(LayerNorm, kernels=("LayerNormalization",), refuse=_no_scale)
def layer_norm(c: Context, op: LayerNorm) -> str:
    inputs = [c.w[op.x], _scale(c, op.weight, op)]
    if op.bias is not None:
        inputs.append(c.w[op.bias])
    return c.w.node("LayerNormalization", *inputs, axis=-1, epsilon=float(op.eps))
