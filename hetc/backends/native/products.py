"""Products with stored matrices: the stage that reads most of the bytes and does most of the work.

A thread takes a share of the tiles, for all rows. Of some rows and some tiles the sums stay in
registers while the code walks along K. With few sums, each is kept in several parts, so that one
multiplication need not wait for the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hetc.backends.native.ssa import BYTES, F32, I32, LANES, Body, Emitter, Ssa, vector
from hetc.backends.native.storage import Matrix
from hetc.backends.native.views import View
from hetc.backends.native.writer import Writer

_SUMS_IN_FLIGHT = 8
_STEPS_UNROLLED = 8


@dataclass(frozen=True)
class Product:
    """`out` [R, tiles * 16] = `x` [R, K] times all matrices of `matrix`, plus their biases.

    `stored` is the buffer that holds the matrix. With `panels`, for many rows, several tiles are
    taken at a time as well.
    """

    matrix: Matrix
    stored: str
    x: View
    out: View
    panels: bool

    @property
    def reads(self) -> tuple[View, ...]:
        return (self.x,)

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.out,)

    def write(self, w: Writer) -> None:
        e = w.e
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
        e = w.e
        xs = [w.address(self.x, [e.add(row, e.index(place))]) for place in range(rows)]
        panels = [
            e.offset(weights, e.index(place * self.matrix.tile_bytes)) for place in range(tiles)
        ]
        parts = max(1, _SUMS_IN_FLIGHT // (rows * tiles))
        zero = e.constant("0.0", vector(LANES, F32))
        sums = _Sums(rows, tiles, parts, [zero] * (rows * tiles * parts))
        steps, unrolled = self.matrix.inner // self.matrix.pair, _STEPS_UNROLLED
        whole = steps // unrolled * unrolled
        if whole:

            def several(step: Ssa, *carried: Ssa) -> list[Ssa]:
                inside = sums.holding(carried)
                for number in range(unrolled):
                    self._step(w, inside, xs, panels, step, number)
                return inside.values

            carried = e.loop(e.index(0), e.index(whole), unrolled, several, sums.values)
            sums = sums.holding(carried)
        for number in range(steps - whole):
            self._step(w, sums, xs, panels, e.index(whole), number)
        if self.matrix.inner % self.matrix.pair:
            self._step(w, sums, xs, panels, e.index(steps), 0, last=True)
        self._store(w, sums, row, tile)

    def _step(
        self,
        w: Writer,
        sums: _Sums,
        xs: Sequence[Ssa],
        panels: Sequence[Ssa],
        step: Ssa,
        number: int,
        *,
        last: bool = False,
    ) -> None:
        """One step along K, `number` behind `step`; `last`: of a pair, only the first is there."""
        e, pair = w.e, self.matrix.pair
        width = LANES * pair * BYTES[self.matrix.element]
        columns = []
        for panel in panels:
            place = e.offset(panel, e.mul(step, e.index(width)))
            columns.append(self._weights(w, e.offset(place, e.index(number * width))))
        for row, x in enumerate(xs):
            start = e.offset(x, e.mul(step, e.index(4 * pair)))
            for half in range(1 if last else pair):
                value = e.load(e.offset(start, e.index(4 * (number * pair + half))), F32)
                factor = e.splat(value, LANES)
                for tile, column in enumerate(columns):
                    sums.add(e, row, tile, number * pair + half, column[half], factor)

    def _weights(self, w: Writer, place: Ssa) -> tuple[Ssa, ...]:
        """The numbers of one step for 16 outputs, as f32: one vector, or two of a pair."""
        e = w.e
        if self.matrix.pair == 1:
            return (w.widened(w.load(place, self.matrix.element, LANES)),)
        both = e.load(place, vector(LANES, I32))
        low = e.arith("shli", both, e.constant("16", both.type))
        high = e.arith("andi", both, e.constant("-65536", both.type))
        return tuple(e.convert("bitcast", half, F32) for half in (low, high))

    def _store(self, w: Writer, sums: _Sums, row: Ssa, tile: Ssa) -> None:
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


@dataclass
class _Sums:
    """The sums of a block, each in parts."""

    rows: int
    tiles: int
    parts: int
    values: list[Ssa]

    def holding(self, values: Sequence[Ssa]) -> _Sums:
        return _Sums(self.rows, self.tiles, self.parts, list(values))

    def _place(self, row: int, tile: int, part: int) -> int:
        return (row * self.tiles + tile) * self.parts + part

    def add(self, e: Emitter, row: int, tile: int, step: int, x: Ssa, y: Ssa) -> None:
        place = self._place(row, tile, step % self.parts)
        self.values[place] = e.fma(x, y, self.values[place])

    def total(self, e: Emitter, row: int, tile: int) -> Ssa:
        parts = [self.values[self._place(row, tile, part)] for part in range(self.parts)]
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [e.add(x, y) for x, y in pairs]
        return parts[0]
