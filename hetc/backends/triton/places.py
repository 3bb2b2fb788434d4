"""Places of columns as functions of a row program: base + i * inner + c * column."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """`base + i * inner + c * column`, for the i-th row of a token and column c of it."""

    base: int = 0
    inner: int = 0
    column: int = 0

    def __add__(self, other: Place) -> Place:
        return Place(self.base + other.base, self.inner + other.inner, self.column + other.column)

    def __mul__(self, factor: int) -> Place:
        return Place(self.base * factor, self.inner * factor, self.column * factor)

    @property
    def is_column(self) -> bool:
        """Whether this is the column itself."""
        return self == Place(column=1)


def split(place: Place, sizes: tuple[int, ...], inner: int, columns: int) -> list[Place] | None:
    """The indices along axes of `sizes` of the element at `place` of their row-major order; None
    where an index is no such function. `inner` and `columns` bound i and c."""
    found: list[Place] = []
    for size in reversed(sizes[1:]):
        low = Place(place.base % size, place.inner % size, place.column % size)
        if low.base + low.inner * (inner - 1) + low.column * (columns - 1) >= size:
            # A negative step wraps around: nothing that a view of heads does.
            return None
        found.append(low)
        place = Place(place.base // size, place.inner // size, place.column // size)
    found.append(place)
    return found[::-1]


def joined(indices: list[Place], sizes: tuple[int, ...]) -> Place:
    """The inverse of `split`."""
    total = Place()
    for index, size in zip(indices, sizes, strict=True):
        total = total * size + index
    return total
