"""Instances of convolutions and pooling."""

from __future__ import annotations

from typing import Any

from hetc.ir.types import BF16, F32, F64, I8, U8
from tests.backends.cases import B, Draw, S, case


def _lie(draw: Draw, axes: int, pad: int) -> dict[str, tuple[int, ...]]:
    ends = {"stride": (1, 3), "low": (0, pad), "high": (0, pad), "dilation": (1, 2)}
    return {name: tuple(draw.upto(*end) for _ in range(axes)) for name, end in ends.items()}


@case("conv", "conv_transpose")
def conv(draw: Draw, op: Any) -> Any:
    dtype, axes, groups = draw.pick(F32, BF16), draw.upto(1, 2), draw.upto(1, 2)
    taps = tuple(draw.upto(1, 3) for _ in range(axes))
    x = draw.x((B, 2 * groups, *(draw.upto(5, 7) for _ in range(axes))), dtype)
    lie = _lie(draw, axes, 1)
    channels = (4, 2) if op.kind == "conv" else (2 * groups, 3)
    outputs = 4 if op.kind == "conv" else 3 * groups
    weight, bias = draw.x((*channels, *taps), dtype), draw.x((outputs,), dtype)
    if op.kind == "conv_transpose" and draw.upto(0, 1):
        lie["high"] = tuple(1 - step for step in lie["stride"])
    return op(x, weight, draw.pick(None, bias), groups=groups, **lie)


@case("conv")
def conv_of_any_length(draw: Draw, op: Any) -> Any:
    x, weight = draw.x((B, 4, S), F32), draw.x((2, 4, 3), F32)
    return op(x, weight, low=(1,), high=(1,))


@case("max_pool", "avg_pool")
def pool(draw: Draw, op: Any) -> Any:
    types = (F32, BF16) if op.kind == "avg_pool" else (F32, BF16, F64, I8, U8)
    axes = draw.upto(1, 2)
    x = draw.x((B, 3, *(draw.upto(5, 7) for _ in range(axes))), draw.pick(*types), -9, 9)
    lie, ceil = _lie(draw, axes, 1), draw.pick(True, False)
    # ONNX Runtime wants padding narrower than a window, and what `ceil` adds is padding there.
    window = tuple(3 if ceil else draw.upto(2, 3) for _ in range(axes))
    if ceil:
        lie["stride"] = (2,) * axes
    if op.kind == "max_pool":
        return op(x, window, ceil=ceil, **lie)
    counted = draw.pick(True, False) and not ceil
    divisor = draw.pick(None, 5) if not ceil else None
    return op(x, window, ceil=ceil, count_pad=counted, divisor=divisor, **lie)
