"""Convolutions and pooling."""

from __future__ import annotations

import math
from typing import Any

from hetc.backends.onnx.table import Context, emits
from hetc.ir.dims import product
from hetc.ir.ops.window import AvgPool, Conv, ConvTranspose, Filtered, MaxPool, Pool
from hetc.ir.types import I64


def _lie(op: Any, extra: tuple[int, ...] = ()) -> dict[str, Any]:
    """Where windows lie, as ONNX's attributes."""
    low, high = zip(*op.pads, strict=True)
    ends = extra or (0,) * op.axes
    after = (width + more for width, more in zip(high, ends, strict=True))
    return {"strides": op.steps, "dilations": op.gaps, "pads": (*low, *after)}


def _filtered(c: Context, onnx: str, op: Filtered, **attributes: Any) -> str:
    inputs = [c.w[op.x], c.w[op.weight]] + ([] if op.bias is None else [c.w[op.bias]])
    return c.w.node(onnx, *inputs, group=op.groups, **attributes)


@emits(Conv, kernels=("Conv",))
def conv(c: Context, op: Conv) -> str:
    return _filtered(c, "Conv", op, **_lie(op))


def _too_long(op: ConvTranspose) -> str | None:
    long = any(-high >= step for (_, high), step in zip(op.pads, op.steps, strict=True))
    return "zeros after the result, as many as a stride or more" if long else None


@emits(ConvTranspose, kernels=("ConvTranspose",), refuse=_too_long)
def conv_transpose(c: Context, op: ConvTranspose) -> str:
    lie = _lie(op)
    # A negative width adds elements.
    more = tuple(max(-high, 0) for _, high in op.pads)
    lie["pads"] = tuple(max(width, 0) for width in lie["pads"])
    return _filtered(c, "ConvTranspose", op, output_padding=more, **lie)


def _no_window(op: Pool) -> str | None:
    lie = zip(op.pads, op.extra(op.x.shape[2:]), op.window, strict=True)
    if any(max(low, high + extra) >= taps for (low, high), extra, taps in lie):
        # ONNX Runtime's own rule.
        return "padding as wide as a window"
    return None


@emits(MaxPool, kernels=("MaxPool",), refuse=_no_window)
def max_pool(c: Context, op: MaxPool) -> tuple[str, str]:
    lie = _lie(op, op.extra(op.x.shape[2:]))
    values, places = c.w.split("MaxPool", c.w[op.x], outputs=2, kernel_shape=op.window, **lie)
    # ONNX counts places through the whole tensor, hetc inside of one channel.
    size = product(op.x.shape[2:])
    return values, c.w.node("Mod", places, c.sizes.scalar(size, I64))


def _no_mean(op: AvgPool) -> str | None:
    if any(op.extra(op.x.shape[2:])) and (op.count_pad or op.divisor):
        return "windows that end behind padding which counts"
    return _no_window(op)


@emits(AvgPool, kernels=("AveragePool",), refuse=_no_mean)
def avg_pool(c: Context, op: AvgPool) -> str:
    counted = op.count_pad or op.divisor is not None
    lie = _lie(op, op.extra(op.x.shape[2:]))
    mean = c.w.node(
        "AveragePool",
        c.w[op.x],
        kernel_shape=op.window,
        count_include_pad=int(counted),
        **lie,
    )
    if op.divisor is None:
        return mean
    factor = c.w.constant(math.prod(op.window) / op.divisor, op.x.dtype)
    return c.w.node("Mul", mean, factor)
