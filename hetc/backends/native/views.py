"""Strided views: where the elements of a tensor lie in a buffer, without moving any.

A size and a stride is an int or a polynomial of the sizes that the function gets: B sequences, T
tokens each; P stands for the tokens before them, of which each sequence has its own number. Views
count in elements.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hetc.ir.dims import Dim, DimLike, product, symbol
from hetc.ir.types import Shape

B = symbol("B")


@dataclass(frozen=True)
class View:
    """Element `[i, j, ...]` is at `offset + i * strides[0] + j * strides[1] + ...` of `buffer`.

    Where `past_stride` is not 0, it is so many elements further on for every token that is behind
    its sequence, which the index along the axis of size B names.
    """

    buffer: str
    shape: Shape
    strides: Shape
    offset: DimLike = 0
    past_stride: DimLike = 0

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def columns(self) -> int:
        """The size of the last axis; 1 for a scalar."""
        last = self.shape[-1] if self.shape else 1
        assert isinstance(last, int), "the last axis of what is computed has a known size"
        return last

    @property
    def has_rows(self) -> bool:
        """Whether the elements along some axis of a known size lie side by side."""
        axes = zip(self.shape, self.strides, strict=True)
        return any(stride == 1 and isinstance(size, int) and size > 1 for size, stride in axes)

    def transposed(self, perm: Sequence[int]) -> View:
        shape, strides = (tuple(part[axis] for axis in perm) for part in (self.shape, self.strides))
        return replace(self, shape=shape, strides=strides)

    def sliced(self, axis: int, start: DimLike, size: DimLike, step: int = 1) -> View:
        shape, strides = list(self.shape), list(self.strides)
        shape[axis], strides[axis] = size, strides[axis] * step
        moved = self.offset + start * self.strides[axis]
        return replace(self, shape=tuple(shape), strides=tuple(strides), offset=moved)

    def broadcast(self, shape: Shape) -> View:
        """The view with axes of length 1, and new leading ones, repeated to `shape`."""
        new = len(shape) - self.rank
        kept = (
            0 if have == 1 and want != 1 else stride
            for have, want, stride in zip(self.shape, shape[new:], self.strides, strict=True)
        )
        return replace(self, shape=tuple(shape), strides=(*([0] * new), *kept))

    def reshaped(self, shape: Shape) -> View | None:
        """The same elements in row-major order under `shape`; None where they would have to move.

        Axes of both shapes are matched in groups of equal size, as NumPy does; the axes of a group
        must lie row-major among themselves.
        """
        old = [pair for pair in zip(self.shape, self.strides, strict=True) if pair[0] != 1]
        strides: list[DimLike] = []
        at = 0
        for group in _groups([size for size, _ in old], shape):
            if group is None:
                return None
            taken, wanted = group
            part, at = old[at : at + taken], at + taken
            if self.past_stride != 0 and taken > 1 and any(size == B for size, _ in part):
                return None
            for (_, outer), (size, inner) in itertools.pairwise(part):
                if outer != size * inner:
                    return None
            strides += row_major(wanted, part[-1][1] if part else 1)
        return replace(self, shape=tuple(shape), strides=tuple(strides))


def _groups(old: Sequence[DimLike], new: Shape) -> list[tuple[int, Shape] | None]:
    """How many of the old axes become which of the new ones, in order; None for no match."""
    groups: list[tuple[int, Shape] | None] = []
    left, right = list(old), list(new)
    taken = 0
    while right:
        wanted = [right.pop(0)]
        if wanted[0] == 1:
            groups.append((0, (1,)))
            continue
        if taken == len(left):
            return [None]
        count, size = 1, left[taken]
        while size != product(wanted):
            grow_old = _contains(product(wanted), size)
            if grow_old and taken + count < len(left):
                size, count = size * left[taken + count], count + 1
            elif not grow_old and right:
                wanted.append(right.pop(0))
            else:
                return [None]
        groups.append((count, tuple(wanted)))
        taken += count
    return groups if taken == len(left) else [None]


def _contains(whole: DimLike, part: DimLike) -> bool:
    """Whether `whole` is a multiple of `part` and larger: `6*B*T` of `B`."""
    if isinstance(whole, int) and isinstance(part, int):
        return whole > part
    (many, n), (few, m) = _monomial(whole), _monomial(part)
    return len(many) > len(few) or (many == few and n > m)


def _monomial(value: DimLike) -> tuple[tuple[str, ...], int]:
    if isinstance(value, int):
        return (), value
    return value.terms[0] if len(value.terms) == 1 else (tuple(value.symbols), 0)


def as_rows(views: Sequence[View]) -> tuple[View, ...]:
    """Views of one shape with one axis order, in which the first, which is written, has rows of a
    known size that lie densely; rows of one element where it has none."""
    first = views[0]
    if first.rank and isinstance(first.shape[-1], int) and first.strides[-1] == 1:
        return tuple(views)
    for axis in reversed(range(first.rank)):
        if first.strides[axis] == 1 and isinstance(first.shape[axis], int):
            order = [*(other for other in range(first.rank) if other != axis), axis]
            return tuple(view.transposed(order) for view in views)
    return tuple(
        replace(view, shape=(*view.shape, 1), strides=(*view.strides, 1)) for view in views
    )


def row_major(shape: Shape, inner: DimLike = 1) -> list[DimLike]:
    """The strides of `shape` in row-major order, with the last axis `inner` apart."""
    strides: list[DimLike] = []
    for size in reversed(shape):
        strides.append(inner)
        inner = inner * size
    return strides[::-1]


def contiguous(buffer: str, shape: Shape, offset: DimLike = 0) -> View:
    """A view of row-major elements."""
    return View(buffer, tuple(shape), tuple(row_major(shape)), offset)


def like(view: View, buffer: str) -> View:
    """A view of the shape of `view` whose elements lie densely in `buffer` in the same order of
    axes, so that what was a view of the one stays a view of the other."""
    strides: list[DimLike] = [0] * view.rank
    inner: DimLike = 1
    for axis in _from_inner(view):
        strides[axis] = inner
        inner = inner * view.shape[axis]
    return View(buffer, view.shape, tuple(strides))


def _from_inner(view: View) -> list[int]:
    """Axes by rising stride; those of no extent or no stride where row-major order has them."""

    def key(axis: int) -> tuple[int, int, int]:
        monomial, factor = _monomial(view.strides[axis])
        return len(monomial), factor, -axis

    ordered = sorted(
        (axis for axis in range(view.rank) if view.shape[axis] != 1 and view.strides[axis] != 0),
        key=key,
    )
    rest = [axis for axis in reversed(range(view.rank)) if axis not in ordered]
    return ordered + rest


def collapse(views: Sequence[View]) -> tuple[View, ...]:
    """Views of one shape with neighbouring axes joined wherever all of them allow it.

    The last axis stays by itself, so that what runs along rows sees the same rows.
    """
    first = views[0]
    axes: list[list[int]] = []
    for axis in range(first.rank - 1):
        if first.shape[axis] == 1:
            continue
        if axes and all(_continue(view, axes[-1][-1], axis) for view in views):
            axes[-1].append(axis)
        else:
            axes.append([axis])
    return tuple(_joined(view, axes) for view in views)


def _continue(view: View, outer: int, inner: int) -> bool:
    if view.past_stride != 0 and B in (view.shape[outer], view.shape[inner]):
        return False
    return view.strides[outer] == view.strides[inner] * view.shape[inner]


def _joined(view: View, axes: Sequence[Sequence[int]]) -> View:
    shape = [product(view.shape[axis] for axis in group) for group in axes]
    strides = [view.strides[group[-1]] for group in axes]
    last = (view.shape[-1], view.strides[-1]) if view.rank else (1, 1)
    return replace(view, shape=(*shape, last[0]), strides=(*strides, last[1]))


def padded(size: DimLike, multiple: int = 16) -> DimLike:
    """At least `size`: every coefficient raised to a multiple of `multiple`."""
    if isinstance(size, int):
        return -(-size // multiple) * multiple
    return Dim(tuple((name, -(-factor // multiple) * multiple) for name, factor in size.terms))
