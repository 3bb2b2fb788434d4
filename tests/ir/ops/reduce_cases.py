"""Reductions, running sums and softmax against torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from hetc.ir.types import BOOL, F32, I64
from tests.ir.ops.oracle import FLOATS, NUMBERS, Draw, Trial, as_torch, case, narrow, wide

REDUCTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "sum": torch.sum,
    "reduce_max": torch.amax,
    "reduce_min": torch.amin,
}


@case(*REDUCTIONS, dtypes=NUMBERS)
def reductions(draw: Draw) -> Trial:
    x, keepdim = draw.array(*draw.shape(1)), draw.flag()
    axes = draw.axes(x.shape)
    expected = REDUCTIONS[draw.kind](wide(x), dim=axes, keepdim=keepdim)
    return Trial({"x": x, "axes": axes, "keepdim": keepdim}, [narrow(expected, x)])


@case("mean", "logsumexp", dtypes=FLOATS)
def reductions_of_floats(draw: Draw) -> Trial:
    x, keepdim = draw.array(*draw.shape(1)), draw.flag()
    axes = draw.axes(x.shape)
    function = torch.mean if draw.kind == "mean" else torch.logsumexp
    expected = function(wide(x), dim=axes, keepdim=keepdim)
    return Trial({"x": x, "axes": axes, "keepdim": keepdim}, [narrow(expected, x)])


@case("logsumexp")
def logsumexp_far_from_zero(draw: Draw) -> Trial:
    x = np.array([[1000, 1000], [-np.inf, -np.inf], [-np.inf, 3]], np.float32)
    return Trial({"x": x, "axes": (1,)}, [torch.logsumexp(as_torch(x), dim=1)])


@case("prod", dtypes=NUMBERS)
def prod(draw: Draw) -> Trial:
    x, keepdim = draw.array(*draw.shape(1, 3, most=3)), draw.flag()
    axes = draw.axes(x.shape)
    expected = wide(x)
    for axis in axes:
        expected = torch.prod(expected, dim=axis, keepdim=True)
    if not keepdim:
        expected = expected.reshape([n for i, n in enumerate(x.shape) if i not in axes])
    return Trial({"x": x, "axes": axes, "keepdim": keepdim}, [narrow(expected, x)])


@case("any", "all", dtypes=[BOOL, I64, F32])
def truth(draw: Draw) -> Trial:
    x, keepdim = draw.array(*draw.shape(1), low=0, high=1), draw.flag()
    x = np.rint(x).astype(x.dtype)
    axes = draw.axes(x.shape)
    function = torch.any if draw.kind == "any" else torch.all
    expected = function(as_torch(x), dim=axes, keepdim=keepdim)
    return Trial({"x": x, "axes": axes, "keepdim": keepdim}, [expected])


@case("argmax", "argmin", dtypes=NUMBERS)
def extreme_places(draw: Draw) -> Trial:
    shape = draw.shape(1)
    axis, keepdim = draw.axis(shape), draw.flag()
    # Few different numbers, so that there are ties: the first one counts.
    x = np.rint(draw.array(*shape, low=0, high=2)).astype(draw.dtype.numpy)
    sign = 1 if draw.kind == "argmax" else -1
    expected = np.apply_along_axis(
        lambda row: max(range(len(row)), key=lambda i: (sign * row[i], -i)),
        axis,
        x.astype(np.float32),
    )
    if keepdim:
        expected = np.expand_dims(expected, axis)
    return Trial({"x": x, "axis": axis, "keepdim": keepdim}, [expected.astype(np.int64)])


@case("cumsum", dtypes=[*NUMBERS, BOOL])
def cumsum(draw: Draw) -> Trial:
    x = draw.array(*draw.shape(1))
    axis = draw.axis(x.shape)
    total = torch.cumsum(wide(x), axis)
    return Trial({"x": x, "axis": axis}, [total if draw.dtype is BOOL else narrow(total, x)])


@case("softmax", "log_softmax", dtypes=FLOATS)
def softmax(draw: Draw) -> Trial:
    x = draw.array(*draw.shape(1), low=-50, high=50)
    axis = draw.axis(x.shape)
    function = torch.softmax if draw.kind == "softmax" else torch.log_softmax
    return Trial({"x": x, "axis": axis}, [narrow(function(wide(x), axis), x)])


@case("softmax")
def softmax_of_a_masked_row(draw: Draw) -> Trial:
    x = np.array([[-np.inf, -np.inf], [0, -np.inf]], np.float32)
    safe = draw.flag()
    function = torch.ops.aten._safe_softmax if safe else torch.softmax
    return Trial({"x": x, "axis": 1, "safe": safe}, [function(as_torch(x), 1)])


@case("softmax", "log_softmax")
def softmax_of_nothing(draw: Draw) -> Trial:
    x = np.zeros((3, 0), np.float32)
    return Trial({"x": x, "axis": 1}, [x])
