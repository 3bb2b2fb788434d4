"""How a captured decode step keeps the rows of its caches, and which of them attention sees.

A cache that grows takes the new row behind the others, and may then drop the oldest; one that is
written into takes it at the position, or moves all rows up by one and takes it at the end.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.ir.ops.index import IndexPut
from hetc.ir.ops.shape import Concat, Reshape, Slice
from hetc.ir.types import BOOL, Array

# A score below it takes no weight in a softmax.
_HIDDEN = -1e4
# Biases that differ by less are one: scores in f32 round so.
_NEAR = 1e-4


@dataclass(frozen=True)
class Append:
    """What puts the row `new` [b,G,1,D] into `cache`: `grown` is behind the others, `written` at
    the row `place`, and `shifted` at `place`, the last one, after all moved up by one.

    `parts` are the ops that make it one.
    """

    cache: Value
    new: Value
    form: Literal["grown", "written", "shifted"]
    place: Value | None
    parts: tuple[Op, ...]

    @property
    def fits(self) -> bool:
        """Whether one row is put along the axis of rows, and nothing else."""
        cache, new = self.cache, self.new
        return cache.rank == 4 and new.shape == (*cache.shape[:2], 1, cache.shape[3])

    def is_kept(self, rows: Value, kept: Value, keeps: int | None) -> bool:
        """Whether `kept` has as many of the `rows` after the step as a cache of at most `keeps` is
        left with."""
        left = rows.shape[2]
        if self.form == "grown" and keeps is not None and isinstance(left, int):
            left = min(left, keeps)
        return kept.shape == (*rows.shape[:2], left, rows.shape[3])


def appends(graph: Graph, caches: Collection[str]) -> dict[Value, Append]:
    """By the caches after them, all that puts rows into the inputs called `caches`."""
    found: dict[Value, Append] = {}
    for op in graph.ops:
        append = None
        if isinstance(op, Concat) and len(op.xs) == 2 and op.axis % op.result.rank == 2:
            if op.xs[0].name in caches:
                append = Append(op.xs[0], op.xs[1], "grown", None, (op,))
        elif isinstance(op, IndexPut) and op.axes == (2,) and not op.accumulate:
            if op.x.name in caches:
                append = Append(op.x, op.updates, "written", op.ids[0], (op,))
            elif (moved := _moved_up(op.x)) is not None and moved[0].name in caches:
                row, reshaped = _row(op.updates)
                append = Append(moved[0], row, "shifted", op.ids[0], (op, *moved[1], *reshaped))
        if append is not None:
            found[op.result] = append
    return found


def _moved_up(value: Value) -> tuple[Value, tuple[Op, ...]] | None:
    """x and the ops of `concat(x[:, :, 1:], x[:, :, :1])`."""
    op = value.op
    if not isinstance(op, Concat) or len(op.xs) != 2 or op.axis % value.rank != 2:
        return None
    most, first = (part.op for part in op.xs)
    if not isinstance(most, Slice) or not isinstance(first, Slice) or most.x is not first.x:
        return None
    size = most.x.shape[2]
    expected = {most: (2, 1, size, 1), first: (2, 0, 1, 1)}
    for part, bounds in expected.items():
        if (part.axis % part.x.rank, part.start, part.stop, part.step) != bounds:
            return None
    return most.x, (op, most, first)


def _row(updates: Value) -> tuple[Value, tuple[Op, ...]]:
    """A row with its axis of sequences, which one sequence need not have, and what took it away."""
    op = updates.op
    if isinstance(op, Reshape) and op.x.shape == (1, *updates.shape):
        return op.x, (op,)
    return updates, ()


def visible(mask: Array) -> Array | str:
    """Which keys a mask [n,...,L] shows, or what else it does."""
    if any(size != 1 for size in mask.shape[1:-1]):
        return "the mask is not one for all heads"
    flat: Array = mask.reshape(mask.shape[0], -1)
    seen: Array = flat if flat.dtype == BOOL.numpy else flat == 0
    if flat.dtype != BOOL.numpy and not (flat[~seen] <= _HIDDEN).all():
        return "the mask adds something to scores"
    return seen


def without_slopes(mask: Array) -> tuple[Array, tuple[float, ...]] | None:
    """Which keys a mask [n,...,H,1,L] shows, as bool[n,1,L], and the slope by which it adds to
    scores for each head (ALiBi); None for a mask that does something else.

    Softmax does not see what is added to all keys alike.
    """
    if mask.ndim < 4 or mask.shape[-2] != 1 or any(size != 1 for size in mask.shape[1:-3]):
        return None
    heads = mask.reshape(mask.shape[0], mask.shape[-3], mask.shape[-1])
    seen = heads > _HIDDEN
    if heads.dtype == BOOL.numpy or (seen != seen[:, :1]).any() or not seen.any(-1).all():
        return None
    added = np.where(seen, heads, 0).astype(np.float64)
    keys = np.arange(heads.shape[-1])
    last = keys[-1] - seen[..., ::-1].argmax(-1)[..., None]
    behind = keys - last
    added = np.where(seen, added - np.take_along_axis(added, last, -1), 0)
    first = int(seen[-1, 0].argmax())
    if behind[-1, 0, first] == 0:
        return None
    slopes = added[-1, :, first] / behind[-1, :, first]
    if np.abs(added - np.where(seen, slopes[None, :, None] * behind, 0)).max() > _NEAR:
        return None
    return seen[:, :1], tuple(float(slope) for slope in slopes)


def window_by(
    seen: Array, append: Append, keeps: int | None, capacity: int
) -> int | Literal["neither"] | None:
    """How many keys a query sees, itself included, and None for all up to its own, by what a mask
    shows: `seen` bool[n,L] at every position below `capacity`, or [1,L] at whatever position.

    `keeps` are the rows that the cache has at most. The mask of rows that are not there says
    nothing.
    """
    rows = append.cache.shape[2]
    most = widest_of(append, keeps)
    if append.form == "written" or not isinstance(rows, int):
        # Keys stand where they stand in the sequence.
        position = np.arange(len(seen))[:, None]
        behind = position - np.arange(seen.shape[1])[None, :]
    else:
        # The last key is that of the query, at the positions that so many rows can have.
        is_full = append.form == "shifted" or rows == keeps
        seen = seen if len(seen) == 1 else seen[rows : capacity if is_full else rows + 1]
        behind = (seen.shape[1] - 1 - np.arange(seen.shape[1]))[None, :]
    if not len(seen):
        return "neither"
    widest = int(seen[-1].sum())
    if not np.array_equal(seen, np.broadcast_to((behind >= 0) & (behind < widest), seen.shape)):
        return "neither"
    if widest == int((behind[-1] >= 0).sum()):
        return most
    return widest if most is None else min(widest, most)


def widest_of(append: Append, keeps: int | None) -> int | None:
    """The window of a query that sees all that the cache has; None where that is everything."""
    if append.form == "shifted":
        rows = append.cache.shape[2]
        assert isinstance(rows, int), "what is written into has a known size"
        return rows
    return None if keeps is None else keeps + 1
