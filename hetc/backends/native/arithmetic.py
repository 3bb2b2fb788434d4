"""One step along K of a product: for any CPU by f32 multiply-adds, or by bf16 dot products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hetc.backends.native.dots import pair_dot
from hetc.backends.native.ssa import BYTES, F32, I32, LANES, Emitter, Ssa, vector
from hetc.backends.native.views import View
from hetc.backends.native.writer import Writer

PAIRS = vector(2 * LANES, "bf16")


@dataclass
class Sums:
    """The sums of a block of rows and tiles, each in parts that do not wait for each other."""

    rows: int
    tiles: int
    parts: int
    values: list[Ssa]

    @staticmethod
    def zero(e: Emitter, rows: int, tiles: int, in_flight: int) -> Sums:
        """Sums in as many parts as keep `in_flight` of them busy."""
        parts = max(1, in_flight // (rows * tiles))
        start = e.constant("0.0", vector(LANES, F32))
        return Sums(rows, tiles, parts, [start] * (rows * tiles * parts))

    def holding(self, values: Sequence[Ssa]) -> Sums:
        """These sums with other values."""
        return Sums(self.rows, self.tiles, self.parts, list(values))

    def place(self, row: int, tile: int, step: int) -> int:
        """Where the part that `step` adds to is in `values`."""
        return (row * self.tiles + tile) * self.parts + step % self.parts

    def total(self, e: Emitter, row: int, tile: int) -> Ssa:
        """The parts of one sum as one."""
        parts = [self.values[self.place(row, tile, part)] for part in range(self.parts)]
        while len(parts) > 1:
            parts = [e.add(x, y) for x, y in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]


class Preparation(Protocol):
    """With `prepares`, rows of x are brought to the form that steps read: `x_bytes` for each of
    them."""

    @property
    def prepares(self) -> bool: ...

    @property
    def x_bytes(self) -> int: ...

    def prepare(self, w: Writer, view: View, x: Ssa, out: Ssa, count: int) -> None:
        """Write the row of `count` numbers of `view` that begins at `x` to `out`."""
        ...


class Arithmetic(Preparation, Protocol):
    """How a step is computed: `group` numbers along K, `panel_bytes` of a tile."""

    @property
    def group(self) -> int: ...

    @property
    def panel_bytes(self) -> int: ...

    def step(
        self, w: Writer, sums: Sums, xs: Sequence[Ssa], panels: Sequence[Ssa], number: int
    ) -> None:
        """Add to `sums` what step `number` behind the addresses of rows and tiles gives."""
        ...

    def odd(self, w: Writer, sums: Sums, xs: Sequence[Ssa], panels: Sequence[Ssa]) -> None:
        """The last step where K ends in the middle of it."""
        ...


@dataclass(frozen=True)
class MultiplyAdd:
    """Weights become f32 where they are loaded; x is f32."""

    element: str
    pair: int
    prepares = False

    @property
    def group(self) -> int:
        return self.pair

    @property
    def x_bytes(self) -> int:
        return 4 * self.pair

    @property
    def panel_bytes(self) -> int:
        return LANES * self.pair * BYTES[self.element]

    def prepare(self, w: Writer, view: View, x: Ssa, out: Ssa, count: int) -> None:
        raise AssertionError("f32 is read as it is")

    def step(
        self, w: Writer, sums: Sums, xs: Sequence[Ssa], panels: Sequence[Ssa], number: int
    ) -> None:
        columns = self._columns(w, panels, number)
        multiply_add(w, sums, xs, columns, number * self.pair)

    def odd(self, w: Writer, sums: Sums, xs: Sequence[Ssa], panels: Sequence[Ssa]) -> None:
        columns = [column[:1] for column in self._columns(w, panels, 0)]
        multiply_add(w, sums, xs, columns, 0)

    def _columns(self, w: Writer, panels: Sequence[Ssa], number: int) -> list[tuple[Ssa, ...]]:
        place = w.e.index(number * self.panel_bytes)
        return [self._weights(w, w.e.offset(panel, place)) for panel in panels]

    def _weights(self, w: Writer, place: Ssa) -> tuple[Ssa, ...]:
        """The numbers of one step for 16 outputs, as f32: one vector, or two of a pair."""
        if self.pair == 1:
            return (w.widened(w.load(place, self.element, LANES)),)
        return w.widened_pair(w.e.load(place, vector(LANES, I32)))


def multiply_add(
    w: Writer, sums: Sums, xs: Sequence[Ssa], columns: Sequence[Sequence[Ssa]], first: int
) -> None:
    """Add to `sums` the products of every row of f32 and the `columns` of each tile, which are
    those of the steps from `first` on."""
    e = w.e
    for row, x in enumerate(xs):
        for place, numbers in enumerate(zip(*columns, strict=True)):
            step = first + place
            factor = e.splat(e.load(e.offset(x, e.index(4 * step)), F32), LANES)
            for tile, column in enumerate(numbers):
                at = sums.place(row, tile, step)
                sums.values[at] = e.fma(column, factor, sums.values[at])


@dataclass(frozen=True)
class Dots:
    """Pairs of bf16 are multiplied and added to f32 by one instruction; x is rounded to bf16."""

    group = 2
    x_bytes = 4
    panel_bytes = 4 * LANES
    prepares = True

    def prepare(self, w: Writer, view: View, x: Ssa, out: Ssa, count: int) -> None:
        e = w.e

        def some(column: Ssa, lanes: int) -> tuple[()]:
            value = e.convert("truncf", w.lanes(view, x, column, lanes), "bf16")
            e.store(value, e.offset(out, e.mul(column, e.index(2))))
            return ()

        w.columns(count, some)
        if count % 2:
            e.store(e.constant("0", "i16"), e.offset(out, e.index(2 * count)))

    def step(
        self, w: Writer, sums: Sums, xs: Sequence[Ssa], panels: Sequence[Ssa], number: int
    ) -> None:
        e = w.e
        place = e.index(number * 4 * LANES)
        columns = [e.load(e.offset(panel, place), PAIRS) for panel in panels]
        for row, x in enumerate(xs):
            pairs = same_pair(e, e.offset(x, e.index(4 * number)))
            for tile, column in enumerate(columns):
                at = sums.place(row, tile, number)
                sums.values[at] = pair_dot(e, sums.values[at], pairs, column)

    def odd(self, w: Writer, sums: Sums, xs: Sequence[Ssa], panels: Sequence[Ssa]) -> None:
        self.step(w, sums, xs, panels, 0)


def same_pair(e: Emitter, place: Ssa) -> Ssa:
    """The two numbers of bf16 at `place`, in all lanes."""
    pair = e.splat(e.load(place, I32), LANES)
    return e.op(f"llvm.bitcast {pair.name} : {pair.type} to {PAIRS}", PAIRS)
