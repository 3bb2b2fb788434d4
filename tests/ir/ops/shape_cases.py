"""Layout ops and sources against torch."""

from __future__ import annotations

import numpy as np
import torch

from hetc.ir.types import BF16, BOOL, F32, I64
from tests.ir.ops.oracle import ANY, FLOATS, NUMBERS, Draw, Trial, as_torch, case


@case("reshape", dtypes=ANY)
def reshape(draw: Draw) -> Trial:
    sizes = list(draw.shape(2, 4))
    x = draw.array(*sizes)
    place = draw.integer(0, len(sizes) - 2)
    merged = (*sizes[:place], sizes[place] * sizes[place + 1], *sizes[place + 2 :])
    return Trial({"x": x, "shape": merged}, [as_torch(x).reshape(merged)])


@case("transpose", dtypes=ANY)
def transpose(draw: Draw) -> Trial:
    x = draw.array(*draw.shape())
    perm = tuple(draw.choice([sorted(range(x.ndim), key=lambda i: (i * k) % 5) for k in (1, 2, 3)]))
    return Trial({"x": x, "perm": perm}, [as_torch(x).permute(perm)])


@case("broadcast", dtypes=ANY)
def broadcast(draw: Draw) -> Trial:
    shape = draw.shape()
    x = draw.array(*draw.under(shape))
    return Trial({"x": x, "shape": shape}, [as_torch(x).expand(shape)])


@case("slice", dtypes=ANY)
def slices(draw: Draw) -> Trial:
    x = draw.array(*draw.shape(1))
    axis = draw.axis(x.shape)
    start = draw.integer(0, x.shape[axis])
    stop = draw.choice([None, draw.integer(start, x.shape[axis])])
    step = draw.integer(1, 3)
    index = torch.arange(start, x.shape[axis] if stop is None else stop, step)
    expected = torch.index_select(as_torch(x), axis, index)
    fields = {"x": x, "axis": axis, "start": start, "stop": stop, "step": step}
    return Trial(fields, [expected])


@case("concat", dtypes=ANY)
def concat(draw: Draw) -> Trial:
    shape = draw.shape(1)
    axis = draw.axis(shape)
    parts = []
    for _ in range(draw.integer(1, 3)):
        sizes = list(shape)
        sizes[axis] = draw.integer(1, 3)
        parts.append(draw.array(*sizes))
    expected = torch.cat([as_torch(part) for part in parts], axis)
    return Trial({"xs": tuple(parts), "axis": axis}, [expected])


@case("split", dtypes=ANY)
def split(draw: Draw) -> Trial:
    sizes = draw.shape(1, 3)
    shape = list(draw.shape(1))
    axis = draw.axis(tuple(shape))
    shape[axis] = sum(sizes)
    x = draw.array(*shape)
    expected = torch.split(as_torch(x), list(sizes), axis)
    return Trial({"x": x, "axis": axis, "sizes": sizes}, expected)


@case("pad", dtypes=[*NUMBERS, BOOL])
def pad(draw: Draw) -> Trial:
    x = draw.array(*draw.shape(1, 3))
    low, high = (tuple(draw.integer(-1, 2) for _ in x.shape) for _ in range(2))
    low = tuple(max(a, 1 - n) for a, n in zip(low, x.shape, strict=True))
    high = tuple(max(b, 1 - n - min(a, 0)) for a, b, n in zip(low, high, x.shape, strict=True))
    value = draw.choice([0, 1])
    widths = [width for pair in reversed(list(zip(low, high, strict=True))) for width in pair]
    expected = torch.nn.functional.pad(as_torch(x), widths, value=value)
    return Trial({"x": x, "low": low, "high": high, "value": value}, [expected])


@case("flip", dtypes=ANY)
def flip(draw: Draw) -> Trial:
    x = draw.array(*draw.shape(1))
    axes = draw.axes(x.shape)
    return Trial({"x": x, "axes": axes}, [torch.flip(as_torch(x), axes)])


@case("tile", dtypes=ANY)
def tile(draw: Draw) -> Trial:
    x = draw.array(*draw.shape(1, 3))
    repeats = tuple(draw.integer(1, 3) for _ in x.shape)
    return Trial({"x": x, "repeats": repeats}, [torch.tile(as_torch(x), repeats)])


@case("transfer", "all_reduce", "all_gather", "take_part", dtypes=FLOATS)
def movement(draw: Draw) -> Trial:
    """Alone, a shard holds everything; `test_lockstep.py` has the groups."""
    x = draw.array(*draw.shape(1))
    ends = {"source": "a", "destination": "b"} if draw.kind == "transfer" else {}
    along = {} if draw.kind in ("transfer", "all_reduce") else {"axis": draw.axis(x.shape)}
    return Trial({"x": x, **ends, **along}, [x])


@case("weight", dtypes=ANY)
def weight(draw: Draw) -> Trial:
    data = draw.array(*draw.shape())
    return Trial({"name": "w"}, [data], weights={"w": data})


@case("constant", dtypes=[F32, BF16, I64, BOOL])
def constant(draw: Draw) -> Trial:
    data = draw.array(*draw.shape(0, 3))
    return Trial({"data": _as_tuples(data.tolist()), "dtype": draw.dtype}, [data])


def _as_tuples(data: object) -> object:
    return tuple(map(_as_tuples, data)) if isinstance(data, list) else data


@case("iota", dtypes=[I64, F32])
def iota(draw: Draw) -> Trial:
    size, start, step = draw.integer(0, 5), draw.integer(-3, 3), draw.choice([-2, 1, 3])
    expected = torch.tensor([start + step * i for i in range(size)], dtype=torch.int64)
    fields = {"size": size, "start": start, "step": step, "dtype": draw.dtype}
    return Trial(fields, [expected.numpy().astype(draw.dtype.numpy)])


@case("full", dtypes=[F32, BF16, I64, BOOL])
def full(draw: Draw) -> Trial:
    shape = draw.shape()
    value = draw.choice([0, 1] if draw.dtype in (I64, BOOL) else [0, 1.5, -np.inf, 1e300])
    expected = torch.full(shape, value, dtype=torch.float64).numpy()
    with np.errstate(over="ignore"):
        expected = expected.astype(draw.dtype.numpy)
    return Trial({"value": value, "shape": shape, "dtype": draw.dtype}, [expected])
