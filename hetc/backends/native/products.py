"""Products with stored matrices: the stage that reads most of the bytes and does most of the work.

A thread takes a share of the tiles, for all rows. Of some rows and some tiles the sums stay in
registers while the code walks along K. With few sums, each is kept in several parts, so that one
multiplication need not wait for the one before.
"""

from __future__ import annotations

from dataclasses import dataclass

from hetc.backends.native.arithmetic import Dots, MultiplyAdd, Sums
from hetc.backends.native.ssa import BYTES, LANES, Body, Ssa
from hetc.backends.native.storage import Matrix
from hetc.backends.native.views import View
from hetc.backends.native.writer import Writer

_SUMS_IN_FLIGHT = 8
_STEPS_UNROLLED = 8


@dataclass(frozen=True)
class Product:
    """`out` [R, tiles * 16] = `x` [R, K] times all matrices of `matrix`, plus their biases.

    `stored` is the buffer that holds the matrix. With `panels`, for many rows, several tiles are
    taken at a time as well. `rounded` [R, K filled up to pairs] has room for x as bf16, for CPUs
    that multiply such pairs.
    """

    matrix: Matrix
    stored: str
    x: View
    out: View
    panels: bool
    rounded: View | None = None

    @property
    def reads(self) -> tuple[View, ...]:
        return (self.x,)

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.out,) if self.rounded is None else (self.out, self.rounded)

    def write(self, w: Writer) -> None:
        e = w.e
        if self._by_dots(w):
            self._round(w)
        low, high = w.share(e.index(sum(self.matrix.tiles)))
        if self.panels and w.isa.block_tiles > 1:
            several = e.index(w.isa.block_tiles)
            middle = e.add(low, e.mul(e.div(e.sub(high, low), several), several))
            self._panels(w, low, middle, w.isa.block_tiles)
            low = middle
        self._panels(w, low, high, 1)

    def _panels(self, w: Writer, low: Ssa, high: Ssa, tiles: int) -> None:
        e, rows = w.e, w.isa.block_rows
        base = w.base(self.stored)
        total, several = w.size(self.x.shape[0]), e.index(rows)
        whole = e.mul(e.div(total, several), several)

        def panel(tile: Ssa) -> tuple[()]:
            weights = e.offset(base, e.mul(tile, e.index(self.matrix.tile_bytes)))
            e.loop(e.index(0), whole, rows, block(tile, weights, rows))
            e.loop(whole, total, 1, block(tile, weights, 1))
            return ()

        def block(tile: Ssa, weights: Ssa, rows: int) -> Body:
            def some(row: Ssa) -> tuple[()]:
                self._block(w, row, tile, weights, rows, tiles)
                return ()

            return some

        e.loop(low, high, tiles, panel)

    def _block(self, w: Writer, row: Ssa, tile: Ssa, weights: Ssa, rows: int, tiles: int) -> None:
        """The sums of `rows` rows and `tiles` tiles from `row` and `tile` on."""
        e, x = w.e, self._rounded if self._by_dots(w) else self.x
        arithmetic = Dots(self.matrix) if self._by_dots(w) else MultiplyAdd(self.matrix)
        xs = [w.address(x, [e.add(row, e.index(place))]) for place in range(rows)]
        panels = [
            e.offset(weights, e.index(place * self.matrix.tile_bytes)) for place in range(tiles)
        ]
        step_bytes = LANES * self.matrix.pair * BYTES[self.matrix.element]

        def behind(step: Ssa) -> tuple[list[Ssa], list[Ssa]]:
            left = e.mul(step, e.index(arithmetic.x_bytes))
            right = e.mul(step, e.index(step_bytes))
            return [e.offset(x, left) for x in xs], [e.offset(panel, right) for panel in panels]

        sums = Sums.zero(e, rows, tiles, _SUMS_IN_FLIGHT)
        steps, unrolled = self.matrix.inner // self.matrix.pair, _STEPS_UNROLLED
        whole = steps // unrolled * unrolled
        if whole:

            def several(step: Ssa, *carried: Ssa) -> list[Ssa]:
                inside, there = sums.holding(carried), behind(step)
                for number in range(unrolled):
                    arithmetic.step(w, inside, *there, number)
                return inside.values

            carried = e.loop(e.index(0), e.index(whole), unrolled, several, sums.values)
            sums = sums.holding(carried)
        rest = behind(e.index(whole))
        for number in range(steps - whole):
            arithmetic.step(w, sums, *rest, number)
        if self.matrix.inner % self.matrix.pair:
            arithmetic.odd(w, sums, *behind(e.index(steps)))
        self._store(w, sums, row, tile)

    def _store(self, w: Writer, sums: Sums, row: Ssa, tile: Ssa) -> None:
        e = w.e
        has_bias = self.matrix.nbytes > self.matrix.bias_offset
        for place in range(sums.rows):
            out = w.address(self.out, [e.add(row, e.index(place))])
            for number in range(sums.tiles):
                column = e.mul(e.add(tile, e.index(number)), e.index(LANES * 4))
                total = sums.total(e, place, number)
                if has_bias:
                    biases = e.offset(w.base(self.stored), e.index(self.matrix.bias_offset))
                    total = e.add(total, e.load(e.offset(biases, column), total.type))
                e.store(total, e.offset(out, column))

    # Products of bf16.

    def _by_dots(self, w: Writer) -> bool:
        return self.rounded is not None and w.isa.dots

    @property
    def _rounded(self) -> View:
        assert self.rounded is not None
        return self.rounded

    def _round(self, w: Writer) -> None:
        """Every thread rounds its share of the rows of x, and all wait for all."""
        e, target = w.e, self._rounded

        def row(out: Ssa, x: Ssa) -> None:
            def some(column: Ssa, lanes: int) -> tuple[()]:
                value = e.convert("truncf", w.lanes(self.x, x, column, lanes), "bf16")
                e.store(value, e.offset(out, e.mul(column, e.index(2))))
                return ()

            w.columns(self.matrix.inner, some)
            if target.columns > self.matrix.inner:
                end = e.offset(out, e.index(2 * self.matrix.inner))
                e.store(e.constant("0", "i16"), end)

        w.rows([target.sliced(1, 0, self.matrix.inner), self.x], True, row)
        w.wait()
