"""Indexing and orderings against torch."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from hetc.ir.types import BOOL, F32, I32, I64, U8, Array
from tests.ir.ops.oracle import ANY, INTS, NUMBERS, Draw, Trial, as_torch, case, narrow, wide


@case("embedding", dtypes=INTS)
def embedding(draw: Draw) -> Trial:
    rows = draw.integer(1, 5)
    table = draw.array(rows, draw.integer(1, 4), dtype=F32)
    ids = draw.array(*draw.shape(), low=0, high=rows - 1)
    return Trial({"table": table, "ids": ids}, [F.embedding(as_torch(ids), as_torch(table))])


@case("gather", dtypes=ANY)
def gather(draw: Draw) -> Trial:
    x = draw.array(*draw.shape(1, 3))
    axis = draw.axis(x.shape)
    size = x.shape[axis]
    ids = draw.array(*draw.shape(0, 2), dtype=draw.choice(INTS), low=-size, high=size - 1)
    picked = torch.index_select(as_torch(x), axis, as_torch(ids).long().remainder(size).flatten())
    place = axis % x.ndim
    shape = (*x.shape[:place], *ids.shape, *x.shape[place + 1 :])
    return Trial({"x": x, "ids": ids, "axis": axis}, [picked.reshape(shape)])


@case("take_along", dtypes=ANY)
def take_along(draw: Draw) -> Trial:
    x = draw.array(*draw.shape(1, 3))
    axis = draw.axis(x.shape)
    shape = [draw.integer(1, size) for size in x.shape]
    shape[axis] = draw.integer(1, 4)
    ids = draw.array(*shape, dtype=I64, low=0, high=x.shape[axis] - 1)
    return Trial(
        {"x": x, "ids": ids, "axis": axis}, [torch.gather(as_torch(x), axis, as_torch(ids))]
    )


@case("put_along", dtypes=ANY)
def put_along(draw: Draw) -> Trial:
    x = draw.array(*draw.shape(1, 3))
    axis = draw.axis(x.shape)
    # Each place at most once: which of two updates wins is not defined.
    order = np.argsort(draw.array(*x.shape, dtype=F32), axis=axis)
    cut = tuple(slice(0, draw.integer(1, size)) for size in x.shape)
    ids = order[cut]
    updates = draw.array(*ids.shape)
    expected = torch.scatter(as_torch(x), axis, as_torch(ids), as_torch(updates))
    return Trial({"x": x, "ids": ids, "updates": updates, "axis": axis}, [expected])


@case("put_along", dtypes=NUMBERS)
def put_along_reduced(draw: Draw) -> Trial:
    x = draw.array(*draw.shape(1, 3))
    axis = draw.axis(x.shape)
    # Places may come twice: each update counts.
    shape = tuple(draw.integer(1, size) for size in x.shape)
    ids = draw.array(*shape, dtype=I64, low=0, high=x.shape[axis] - 1)
    updates = draw.array(*shape)
    reduction = draw.choice(["add", "mul", "max", "min"])
    names = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
    expected = torch.scatter_reduce(
        wide(x), axis, as_torch(ids), wide(updates), names[reduction], include_self=True
    )
    fields = {"x": x, "ids": ids, "updates": updates, "axis": axis, "reduction": reduction}
    return Trial(fields, [narrow(expected, x)])


def indices(draw: Draw) -> tuple[Array, tuple[int, ...], tuple[Array, ...]]:
    """A tensor, some of its axes, and an index array for each."""
    x = draw.array(*draw.shape(1, 4, most=3))
    axes = tuple(sorted(draw.axes(x.shape)))
    shape = draw.shape(0, 2)
    ids = tuple(
        draw.array(*draw.under(shape), dtype=I64, low=-x.shape[a], high=x.shape[a] - 1)
        for a in axes
    )
    return x, axes, ids


@case("index", dtypes=ANY)
def index(draw: Draw) -> Trial:
    x, axes, ids = indices(draw)
    places: list[slice | torch.Tensor] = [slice(None)] * x.ndim
    for axis, array in zip(axes, ids, strict=True):
        places[axis] = as_torch(array)
    return Trial({"x": x, "ids": ids, "axes": axes}, [as_torch(x)[tuple(places)]])


@case("index_put", dtypes=NUMBERS)
def index_put(draw: Draw) -> Trial:
    x, axes, ids = indices(draw)
    accumulate = draw.flag() and draw.dtype in (F32, I64)
    places: list[slice | torch.Tensor] = [slice(None)] * x.ndim
    for axis, array in zip(axes, ids, strict=True):
        places[axis] = as_torch(array)
    picked = as_torch(x)[tuple(places)]
    updates = draw.array(*draw.under(tuple(picked.shape)))
    if not accumulate:
        # One number everywhere: which of two updates of one place wins is not defined.
        updates = np.full_like(updates, updates.flat[0] if updates.size else 0)
    expected = as_torch(x).clone()
    if accumulate:
        # Counted one by one, as neither side's kernel does.
        count = torch.arange(x.size).reshape(x.shape)[tuple(places)].flatten().tolist()
        added = as_torch(updates).expand(picked.shape).flatten().tolist()
        flat = expected.flatten().tolist()
        for place, number in zip(count, added, strict=True):
            flat[place] += number
        expected = torch.tensor(flat, dtype=expected.dtype).reshape(x.shape)
    else:
        expected[tuple(places)] = as_torch(updates).expand(picked.shape)
    fields = {"x": x, "updates": updates, "ids": ids, "axes": axes, "accumulate": accumulate}
    return Trial(fields, [expected])


@case("topk", dtypes=[*NUMBERS, U8])
def topk(draw: Draw) -> Trial:
    x, axis, rows = ties(draw)
    largest, k = draw.flag(), draw.integer(1, x.shape[axis])
    expected = [row[:k] for row in (ordered(row, largest) for row in rows)]
    fields = {"x": x, "k": k, "axis": axis, "largest": largest}
    return Trial(fields, gathered(x, axis, expected))


@case("sort", dtypes=[*NUMBERS, U8, BOOL])
def sort(draw: Draw) -> Trial:
    x, axis, rows = ties(draw)
    descending = draw.flag()
    expected = [ordered(row, descending) for row in rows]
    return Trial({"x": x, "axis": axis, "descending": descending}, gathered(x, axis, expected))


@case("sort", "topk", dtypes=[F32, I32])
def orderings_agree_with_torch(draw: Draw) -> Trial:
    x = np.argsort(draw.array(draw.integer(1, 6), dtype=F32)).astype(draw.dtype.numpy)
    values, ids = torch.sort(as_torch(x), descending=True)
    if draw.kind == "sort":
        return Trial({"x": x, "descending": True}, [values, ids])
    return Trial({"x": x, "k": 1}, [values[:1], ids[:1]])


def ties(draw: Draw) -> tuple[Array, int, Array]:
    """A tensor of few different numbers, an axis, and its rows along that axis."""
    shape = draw.shape(1, 3)
    axis = draw.axis(shape)
    x = np.rint(draw.array(*shape, low=0, high=2)).astype(draw.dtype.numpy)
    return x, axis, np.moveaxis(x, axis, -1).reshape(-1, shape[axis])


def ordered(row: Array, descending: bool) -> list[int]:
    """Indices in order, equal elements as they stand."""
    sign = -1 if descending else 1
    return sorted(range(len(row)), key=lambda i: sign * float(row[i]))


def gathered(x: Array, axis: int, rows: list[list[int]]) -> list[Array]:
    """Values and indices, with the axis back in its place."""
    shape = (*np.moveaxis(x, axis, -1).shape[:-1], len(rows[0]))
    ids = np.moveaxis(np.array(rows, np.int64).reshape(shape), -1, axis)
    return [np.take_along_axis(x, ids, axis), ids]
