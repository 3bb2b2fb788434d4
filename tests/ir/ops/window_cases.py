"""Convolutions and pooling against torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from hetc.ir.types import F32, F64, I64
from tests.ir.ops.oracle import FLOATS, Draw, Trial, as_torch, case, narrow, wide


def lay(draw: Draw, axes: int) -> dict[str, tuple[int, ...]]:
    """Stride, padding and dilation along some axes."""
    ranges = {"stride": (1, 3), "low": (0, 2), "high": (0, 2), "dilation": (1, 2)}
    return {name: tuple(draw.integer(*ends) for _ in range(axes)) for name, ends in ranges.items()}


def around(x: torch.Tensor, lie: dict[str, Any], value: float = 0) -> torch.Tensor:
    """`x` padded as torch's own ops cannot: differently on both sides."""
    pairs = zip(reversed(lie["low"]), reversed(lie["high"]), strict=True)
    return F.pad(x, [width for pair in pairs for width in pair], value=value)


@case("conv", dtypes=FLOATS)
def conv(draw: Draw) -> Trial:
    axes, groups = draw.integer(1, 3), draw.integer(1, 2)
    lie = lay(draw, axes)
    taps = [draw.integer(1, 3) for _ in range(axes)]
    sizes = [draw.integer(5, 6) for _ in range(axes)]
    x = draw.array(draw.integer(1, 2), 2 * groups, *sizes)
    weight = draw.array(3 * groups, 2, *taps)
    bias = draw.array(3 * groups) if draw.flag() else None
    function = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    expected = function(
        around(wide(x), lie),
        wide(weight),
        None if bias is None else wide(bias),
        lie["stride"],
        0,
        lie["dilation"],
        groups,
    )
    fields = {"x": x, "weight": weight, "bias": bias, "groups": groups, **lie}
    return Trial(fields, [narrow(expected, x)])


@case("conv_transpose", dtypes=FLOATS)
def conv_transpose(draw: Draw) -> Trial:
    axes, groups = draw.integer(1, 3), draw.integer(1, 2)
    stride, dilation = (tuple(draw.integer(1, 3) for _ in range(axes)) for _ in range(2))
    taps = [draw.integer(2, 3) for _ in range(axes)]
    low = tuple(draw.integer(0, 1) for _ in range(axes))
    # What torch calls output padding must be less than the stride.
    more = tuple(draw.integer(0, step - 1) for step in stride)
    x = draw.array(draw.integer(1, 2), 2 * groups, *[draw.integer(2, 4) for _ in range(axes)])
    weight = draw.array(2 * groups, 3, *taps)
    bias = draw.array(3 * groups) if draw.flag() else None
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes - 1]
    given = (wide(x), wide(weight), None if bias is None else wide(bias))
    expected = function(*given, stride, low, more, groups, dilation)
    fields = {"x": x, "weight": weight, "bias": bias, "groups": groups, "stride": stride}
    high = tuple(width - extra for width, extra in zip(low, more, strict=True))
    return Trial({**fields, "low": low, "high": high, "dilation": dilation}, [narrow(expected, x)])


def pooling(draw: Draw, axes: int) -> dict[str, Any]:
    """A window and how it slides; torch pads both sides alike, by half a window at most."""
    window = tuple(draw.integer(1, 3) for _ in range(axes))
    pads = tuple(draw.integer(0, taps // 2) for taps in window)
    stride = tuple(draw.integer(1, 3) for _ in range(axes))
    return {"window": window, "stride": stride, "low": pads, "high": pads, "ceil": draw.flag()}


@case("max_pool", dtypes=[*FLOATS, F64, I64])
def max_pool(draw: Draw) -> Trial:
    axes = draw.integer(1, 3) if draw.dtype.is_float else 2
    fields = pooling(draw, axes)
    dilation = tuple(draw.integer(1, 2) for _ in range(axes))
    x = draw.array(draw.integer(1, 2), 2, *[draw.integer(5, 7) for _ in range(axes)])
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[axes - 1]
    window, stride, pads = fields["window"], fields["stride"], fields["low"]
    values, places = function(
        as_torch(x), window, stride, pads, dilation, ceil_mode=fields["ceil"], return_indices=True
    )
    return Trial({"x": x, "dilation": dilation, **fields}, [values, places])


@case("max_pool")
def max_pool_of_the_lowest(draw: Draw) -> Trial:
    x = np.full((1, 1, 3, 3), -np.inf, np.float32)
    x[0, 0, 2, 2] = np.nan
    values, places = F.max_pool2d(as_torch(x), 2, 2, 1, return_indices=True)
    fields = {"x": x, "window": (2, 2), "stride": (2, 2), "low": (1, 1), "high": (1, 1)}
    return Trial(fields, [values, places])


@case("avg_pool", dtypes=FLOATS)
def avg_pool(draw: Draw) -> Trial:
    axes = draw.integer(1, 3)
    fields = pooling(draw, axes)
    x = draw.array(draw.integer(1, 2), 2, *[draw.integer(5, 7) for _ in range(axes)])
    counted = draw.flag()
    window, stride, pads, ceil = (fields[key] for key in ("window", "stride", "low", "ceil"))
    divisor = draw.choice([None, 3]) if axes > 1 else None
    if axes == 1:
        expected = F.avg_pool1d(wide(x), window, stride, pads, ceil, counted)
    else:
        function = (F.avg_pool2d, F.avg_pool3d)[axes - 2]
        expected = function(wide(x), window, stride, pads, ceil, counted, divisor)
    more = {"count_pad": counted, "divisor": divisor}
    return Trial({"x": x, **fields, **more}, [narrow(expected, x)])


@case("avg_pool")
def avg_pool_with_gaps(draw: Draw) -> Trial:
    x = draw.array(1, 1, 6, dtype=F32)
    expected = np.array([[[(x[0, 0, at] + x[0, 0, at + 2]) / 2 for at in range(4)]]], np.float32)
    return Trial({"x": x, "window": (2,), "dilation": (2,)}, [expected])
