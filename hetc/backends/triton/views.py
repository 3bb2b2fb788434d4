"""Views as changes of a place: where in `x` the element lies that a view of it has at a place."""

from __future__ import annotations

import numpy as np

from hetc.backends.triton.infer_layouts import Layouts
from hetc.backends.triton.places import Place, joined, split
from hetc.ir.op import Value
from hetc.ir.ops.index import Gather
from hetc.ir.ops.shape import Broadcast, Reshape, Slice, Split, Transpose, View
from hetc.ir.ops.source import Constant
from hetc.ir.types import Array


def seen_through(
    op: View, value: Value, place: Place, layouts: Layouts, inner: int, columns: int
) -> Place | None:
    """The place in `op.x` of what its result `value` has at `place`; None where it is no evenly
    spaced part of a row."""
    x, sizes = op.operands[0], layouts[value].sizes
    from_sizes = layouts[x].sizes
    if isinstance(op, Reshape):
        return place
    if isinstance(op, Slice) and from_sizes == sizes:
        # All of a row, of other rows.
        return place
    if isinstance(op, Broadcast):
        from_sizes = (1,) * (len(sizes) - len(from_sizes)) + from_sizes
        if from_sizes == sizes:
            return place
    if isinstance(op, Transpose):
        moved = [axis for axis in op.perm if from_sizes[axis] > 1]
        if moved == sorted(moved):
            return place
    parts = split(place, sizes, inner, columns)
    if parts is None:
        return None
    match op:
        case Broadcast():
            parts = [p if size > 1 else Place() for p, size in zip(parts, from_sizes, strict=True)]
        case Transpose():
            parts = [parts[op.perm.index(axis)] for axis in range(x.rank)]
        case Slice():
            axis = op.axis % x.rank
            if isinstance(op.start, int):
                parts[axis] = parts[axis] * op.step + Place(op.start)
        case Split():
            axis = op.axis % x.rank
            before = sum(size for size in op.sizes[: value.index] if isinstance(size, int))
            parts[axis] = parts[axis] + Place(before)
        case _:
            return None
    return joined(parts, from_sizes)


def gathered(op: Gather, parts: list[Place]) -> list[Place] | None:
    """The indices in `op.x` of the indices `parts` in its result: constant ids, evenly spaced."""
    assert isinstance(op.ids.op, Constant)
    axis, size = op.axis % op.x.rank, op.x.shape[op.axis]
    assert isinstance(size, int)
    ids = constant_numbers(op.ids.op).astype(np.int64) % size
    step = int(ids[1] - ids[0]) if len(ids) > 1 else 0
    if (np.diff(ids) != step).any() or step < 0:
        return None
    parts = list(parts)
    parts[axis] = parts[axis] * step + Place(int(ids[0]))
    return parts


def constant_numbers(op: Constant) -> Array:
    """The numbers of a constant."""
    return np.asarray(op.semantics())
