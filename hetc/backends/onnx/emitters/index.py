"""Reading and writing by index, and orderings."""

from __future__ import annotations

from typing import Any

from hetc.backends.onnx.elements import computed, kernel_type
from hetc.backends.onnx.table import Context, emits
from hetc.ir.op import Value
from hetc.ir.ops.elementwise_base import broadcast_shapes
from hetc.ir.ops.index import (
    Embedding,
    Gather,
    Index,
    IndexPut,
    NonZero,
    PutAlong,
    Sort,
    TakeAlong,
    TopK,
)
from hetc.ir.ops.shape import normalize_axis
from hetc.ir.types import BOOL, I32, I64, Shape

_NOWHERE = 2**62


def ids(c: Context, value: Value) -> str:
    """Indices in a type that every kernel takes."""
    return c.w[value] if value.dtype is I64 else c.w.cast(c.w[value], I64)


def _from_zero(c: Context, value: Value) -> str:
    """Indices of which negative ones are mistakes, as PyTorch has it; ONNX counts those from the
    end, but for numbers beyond any axis."""
    index = ids(c, value)
    if not c.w.rounds:
        return index
    negative = c.w.node("Less", index, c.w.constant(0, I64))
    return c.w.node("Where", negative, c.w.constant(_NOWHERE, I64), index)


@emits(Embedding)
def embedding(c: Context, op: Embedding) -> str:
    return c.w.node("Gather", c.w[op.table], _from_zero(c, op.ids), axis=0)


@emits(Gather)
def gather(c: Context, op: Gather) -> str:
    axis = normalize_axis(op.axis, op.x.rank)
    return c.w.node("Gather", c.w[op.x], ids(c, op.ids), axis=axis)


@emits(TakeAlong)
def take_along(c: Context, op: TakeAlong) -> str:
    axis = normalize_axis(op.axis, op.x.rank)
    return c.w.node("GatherElements", c.w[op.x], _from_zero(c, op.ids), axis=axis)


def _no_reduction(op: PutAlong) -> str | None:
    if op.reduction == "none" or op.x.dtype is not BOOL:
        return None
    return "arithmetic on bools by index"


@emits(PutAlong, refuse=_no_reduction)
def put_along(c: Context, op: PutAlong) -> str:
    updates = c.sizes.expand(c.w[op.updates], op.updates.shape, op.ids.shape)
    axis = normalize_axis(op.axis, op.x.rank)
    reduced = {} if op.reduction == "none" else {"reduction": op.reduction}
    return c.w.node("ScatterElements", c.w[op.x], ids(c, op.ids), updates, axis=axis, **reduced)


def _picked(op: Any) -> Shape:
    shape = broadcast_shapes(*(value.shape for value in op.ids))
    assert shape is not None
    return shape


def _front(op: Any) -> int:
    """How many axes stand before the picked ones in the result: see hetc.ir.ops.index.Index."""
    first = op.axes[0]
    return first if op.axes == tuple(range(first, first + len(op.axes))) else 0


def _coordinates(c: Context, op: Any) -> str:
    """One row of coordinates for every picked element: [..., number of axes]."""
    picked = _picked(op)
    last = c.w.ints([-1])
    columns = [
        c.w.node("Unsqueeze", c.sizes.expand(ids(c, value), value.shape, picked), last)
        for value in op.ids
    ]
    return columns[0] if len(columns) == 1 else c.w.node("Concat", *columns, axis=-1)


@emits(Index)
def index(c: Context, op: Index) -> str:
    if len(op.axes) == 1:
        return c.w.node("Gather", c.w[op.x], ids(c, op.ids[0]), axis=op.axes[0])
    kept = [axis for axis in range(op.x.rank) if axis not in op.axes]
    ordered = c.w.transpose(c.w[op.x], (*op.axes, *kept))
    found = c.w.node("GatherND", ordered, _coordinates(c, op))
    width, front = len(_picked(op)), _front(op)
    return c.w.transpose(found, _picked_last(width, front, len(kept)))


def _picked_last(width: int, front: int, kept: int) -> list[int]:
    """The order that puts `front` of the `kept` axes before the `width` picked ones."""
    moved = range(width, width + front)
    return [*moved, *range(width), *range(width + front, width + kept)]


def _no_put(op: IndexPut) -> str | None:
    if op.accumulate and op.x.dtype not in (I64, I32) and not op.x.dtype.is_float:
        return f"adding {op.x.dtype} by index"
    return None


@emits(IndexPut, refuse=_no_put)
def index_put(c: Context, op: IndexPut) -> str:
    picked, front = _picked(op), _front(op)
    kept = [axis for axis in range(op.x.rank) if axis not in op.axes]
    rest = [op.x.shape[axis] for axis in kept]
    shape = (*rest[:front], *picked, *rest[front:])
    updates = c.sizes.expand(c.w[op.updates], op.updates.shape, shape)
    order = _picked_last(len(picked), front, len(kept))
    perm = (*op.axes, *kept)
    written = c.w.node(
        "ScatterND",
        c.w.transpose(c.w[op.x], perm),
        _coordinates(c, op),
        c.w.transpose(updates, _inverse(order)),
        **({"reduction": "add"} if op.accumulate else {}),
    )
    return c.w.transpose(written, _inverse(perm))


def _inverse(perm: list[int] | tuple[int, ...]) -> list[int]:
    return [perm.index(axis) for axis in range(len(perm))]


@emits(NonZero, kernels=("NonZero",))
def nonzero(c: Context, op: NonZero) -> str:
    works = kernel_type("NonZero", op.x.dtype)
    assert works is not None
    x = c.w[op.x] if works is computed(op.x.dtype) else c.w.cast(c.w[op.x], works)
    places = c.w.transpose(c.w.node("NonZero", x), (1, 0))
    c.sizes.show(op.count, places, 0)
    return places


@emits(TopK, kernels=("TopK",))
def topk(c: Context, op: TopK) -> tuple[str, str]:
    return _ordered(c, op, c.w.ints([op.k]), largest=op.largest)


@emits(Sort, kernels=("TopK",))
def sort(c: Context, op: Sort) -> tuple[str, str]:
    length = op.x.shape[normalize_axis(op.axis, op.x.rank)]
    return _ordered(c, op, c.sizes.single(length), largest=op.descending)


def _ordered(c: Context, op: TopK | Sort, count: str, *, largest: bool) -> tuple[str, str]:
    # Of equal elements ONNX puts the one with the lower index first, as a stable sort does.
    works = kernel_type("TopK", op.x.dtype)
    assert works is not None
    same = works is computed(op.x.dtype)
    x = c.w[op.x] if same else c.w.cast(c.w[op.x], works)
    axis = normalize_axis(op.axis, op.x.rank)
    values, places = c.w.split("TopK", x, count, outputs=2, axis=axis, largest=int(largest))
    return (values if same else c.w.cast(values, op.x.dtype)), places
