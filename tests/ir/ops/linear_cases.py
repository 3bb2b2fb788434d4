"""Products, norms and quantization against torch or loops."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from hetc.ir.types import BF16, F32, I8, I64, U8
from tests.ir.ops.oracle import FLOATS, Draw, Trial, as_array, case, narrow, wide


@case("matmul", dtypes=FLOATS)
def matmul(draw: Draw) -> Trial:
    rows, inner, columns = draw.shape(3, 3)
    batch = draw.shape(0, 2)
    a = draw.array(*draw.under(batch), rows, inner)
    b = draw.array(*batch, inner, columns)
    return Trial({"a": a, "b": b}, [narrow(torch.matmul(wide(a), wide(b)), a)])


@case("linear", dtypes=FLOATS)
def linear(draw: Draw) -> Trial:
    inner, outer = draw.shape(2, 2)
    x = draw.array(*draw.shape(0, 3), inner)
    weight = draw.array(outer, inner)
    bias = draw.array(outer) if draw.flag() else None
    expected = F.linear(wide(x), wide(weight), None if bias is None else wide(bias))
    return Trial({"x": x, "weight": weight, "bias": bias}, [narrow(expected, x)])


@case("expert_linear", dtypes=FLOATS)
def expert_linear(draw: Draw) -> Trial:
    rows, inner, outer, experts = draw.shape(4, 4)
    x = draw.array(rows, inner)
    weight = draw.array(experts, outer, inner)
    ids = draw.array(rows, dtype=I64, low=0, high=experts - 1)
    bias = draw.array(experts, outer) if draw.flag() else None
    transposed = draw.flag()
    expected = torch.stack(
        [
            F.linear(wide(x)[r], wide(weight)[e], None if bias is None else wide(bias)[e])
            for r, e in enumerate(ids.tolist())
        ]
    )
    stored = np.ascontiguousarray(weight.swapaxes(1, 2)) if transposed else weight
    fields = {"x": x, "weight": stored, "ids": ids, "bias": bias, "transposed": transposed}
    return Trial(fields, [narrow(expected, x)])


@case("rms_norm", dtypes=FLOATS)
def rms_norm(draw: Draw) -> Trial:
    x = draw.array(*draw.shape(1))
    weight = draw.array(x.shape[-1], dtype=draw.choice(FLOATS)) if draw.flag() else None
    eps, offset = draw.choice([1e-6, 1e-2]), draw.choice([0.0, 1.0])
    scale = None if weight is None else wide(weight) + offset
    expected = F.rms_norm(wide(x), x.shape[-1:], scale, eps)
    fields = {"x": x, "weight": weight, "eps": eps, "offset": offset}
    return Trial(fields, [narrow(expected, x)])


@case("layer_norm", dtypes=FLOATS)
def layer_norm(draw: Draw) -> Trial:
    x = draw.array(*draw.shape(1))
    weight = draw.array(x.shape[-1]) if draw.flag() else None
    bias = draw.array(x.shape[-1]) if draw.flag() else None
    eps = draw.choice([1e-5, 1e-2])
    scale, shift = (None if part is None else wide(part) for part in (weight, bias))
    expected = F.layer_norm(wide(x), x.shape[-1:], scale, shift, eps)
    fields = {"x": x, "weight": weight, "bias": bias, "eps": eps}
    return Trial(fields, [narrow(expected, x)])


@case("quantize")
def quantize(draw: Draw) -> Trial:
    group = draw.integer(1, 4)
    scale = draw.array(*draw.shape(1, 3), low=0.01, high=0.1)
    x = draw.array(*scale.shape[:-1], scale.shape[-1] * group)
    dtype = draw.choice([I8, U8])
    low, high = (-128, 127) if dtype is I8 else (0, 255)
    expected = np.empty(x.shape, dtype.numpy)
    for place in np.ndindex(*x.shape):
        step = scale[(*place[:-1], place[-1] // group)]
        expected[place] = min(high, max(low, round(float(x[place] / step))))
    return Trial({"x": x, "scale": scale, "group": group, "dtype": dtype}, [expected])


@case("dequantize", dtypes=[I8, U8])
def dequantize(draw: Draw) -> Trial:
    group = draw.integer(1, 4)
    scale = draw.array(*draw.shape(1, 3), dtype=F32)
    x = draw.array(*scale.shape[:-1], scale.shape[-1] * group, low=-128, high=127)
    zero = draw.array(*scale.shape) if draw.flag() else None
    shift = draw.array(*scale.shape, dtype=F32) if draw.flag() else None
    dtype = draw.choice([F32, BF16])
    expected = np.empty(x.shape, np.float32)
    for place in np.ndindex(*x.shape):
        at = (*place[:-1], place[-1] // group)
        middle = 0 if zero is None else int(zero[at])
        expected[place] = (int(x[place]) - middle) * scale[at]
        if shift is not None:
            expected[place] += shift[at]
    fields = {"x": x, "scale": scale, "zero": zero, "shift": shift, "group": group, "dtype": dtype}
    return Trial(fields, [as_array(torch.from_numpy(expected)).astype(dtype.numpy)])


@case("unpack4", dtypes=[U8])
def unpack4(draw: Draw) -> Trial:
    x = draw.array(*draw.shape(1, 3), low=0, high=255)
    dtype = draw.choice([U8, I8])
    expected = np.empty((*x.shape[:-1], 2 * x.shape[-1]), dtype.numpy)
    for place in np.ndindex(*expected.shape):
        byte = int(x[(*place[:-1], place[-1] // 2)])
        half = byte // 16 if place[-1] % 2 else byte % 16
        expected[place] = half - 16 if dtype is I8 and half > 7 else half
    return Trial({"x": x, "dtype": dtype}, [expected])
