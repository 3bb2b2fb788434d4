"""Products with stored matrices: the stage that reads most of the bytes and does most of the work.

A thread takes a share of the tiles, for all rows. Of some rows and some tiles the sums stay in
registers while the code walks along K. With few sums, each is kept in several parts, so that one
multiplication need not wait for the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hetc.backends.native.arithmetic import Arithmetic, Dots, MultiplyAdd, Sums
from hetc.backends.native.integer_arithmetic import IntegerDots, Widened
from hetc.backends.native.isa import Isa
from hetc.backends.native.ssa import I64, LANES, Ssa
from hetc.backends.native.storage import Experts, Matrix
from hetc.backends.native.tiles import TileForm
from hetc.backends.native.views import View
from hetc.backends.native.writer import Writer

# Numbers along K in one turn of the inner loop.
_UNROLLED = 16
# So many tickets let the last ones end at about the same time, and are few to draw.
_RUNS = 24


@dataclass(frozen=True)
class Product:
    """`out` [R, tiles * 16] = `x` [R, K] times all matrices of `matrix`, plus their biases.

    `stored` is the buffer that holds the matrix. `prepared` has a row for each of x, where the
    matrix may be multiplied by another form of it. For `many` rows, x is prepared by all threads
    together and several tiles are taken at a time; for few, every thread prepares x for itself.

    Threads draw the next tiles from the counter in `tickets`: one that is slow, or has no core for
    a while, does less.
    """

    matrix: Matrix
    stored: str
    x: View
    out: View
    prepared: View | None
    tickets: View
    many: bool

    @property
    def reads(self) -> tuple[View, ...]:
        return (self.x,)

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.out,) if self.prepared is None else (self.out, self.prepared)

    def write(self, w: Writer) -> None:
        e = w.e
        arithmetic = arithmetic_of(self.matrix.form, w.isa, many=self.many)
        factors = factors_of(w, arithmetic, self.x, self.prepared, shared=self.many)
        bias = None
        if self.matrix.bias_offset is not None:
            bias = e.offset(w.base(self.stored), e.index(self.matrix.bias_offset))
        block = Block(self.matrix.form, arithmetic, factors, self.out, bias)
        if self.many:
            self._in_panels(w, block)
        else:
            self._in_runs(w, block)

    def _in_runs(self, w: Writer, block: Block) -> None:
        """A ticket is some tiles one after the other, enough of them to be read as one stream."""
        e, tiles = w.e, sum(self.matrix.tiles)
        length = max(1, tiles // _RUNS)
        sizes = _halves(w.isa.block_rows)

        def one(ticket: Ssa) -> None:
            low = e.mul(ticket, e.index(length))
            high = e.minimum(e.add(low, e.index(length)), e.index(tiles))
            e.loop(low, high, 1, lambda tile: self._panel(w, block, tile, 1, sizes))

        w.draw(self.tickets, -(-tiles // length), one)

    def _in_panels(self, w: Writer, block: Block) -> None:
        """A ticket is as many tiles as one block has, at the end a single one."""
        e, most = w.e, w.isa.block_tiles
        panels, rest = divmod(sum(self.matrix.tiles), most)
        # Of what is left of the rows, prefill has little, and each size is code of its own.
        sizes = [w.isa.block_rows, 1]

        def several(ticket: Ssa) -> None:
            self._panel(w, block, e.mul(ticket, e.index(most)), most, sizes)

        def single(ticket: Ssa) -> None:
            tile = e.add(e.sub(ticket, e.index(panels)), e.index(panels * most))
            self._panel(w, block, tile, 1, sizes)

        def one(ticket: Ssa) -> None:
            is_whole = e.compare("ult", ticket, e.index(panels))
            e.when(is_whole, lambda: several(ticket), lambda: single(ticket))

        w.draw(self.tickets, panels + rest, one if rest else several)

    def _panel(
        self, w: Writer, block: Block, tile: Ssa, tiles: int, sizes: Sequence[int]
    ) -> tuple[()]:
        """`tiles` tiles from `tile` on for all rows, as many at a time as each of `sizes` says."""
        e, total, begin = w.e, w.size(self.x.shape[0]), w.e.index(0)
        weights = e.mul(tile, e.index(self.matrix.form.tile_bytes))
        weights = e.offset(w.base(self.stored), weights)
        for size in sizes:
            end = total
            if size > 1:
                several = e.index(size)
                end = e.add(begin, e.mul(e.div(e.sub(total, begin), several), several))

            def some(row: Ssa, size: int = size) -> tuple[()]:
                block.write(w, row, tile, weights, size, tiles)
                return ()

            e.loop(begin, end, size, some)
            begin = end
        return ()


def _halves(size: int) -> list[int]:
    """8, 4, 2, 1."""
    return [size] if size == 1 else [size, *_halves(size // 2)]


@dataclass(frozen=True)
class ExpertProduct:
    """`out` [R, tiles * 16]: each row of `x` [R, K] times the matrix of its expert, `ids` [R].

    Only the matrices of the experts that were chosen are read. `prepared` is as for `Product`.
    """

    experts: Experts
    stored: str
    x: View
    ids: View
    out: View
    prepared: View | None
    shared: bool

    @property
    def reads(self) -> tuple[View, ...]:
        return (self.x, self.ids)

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.out,) if self.prepared is None else (self.out, self.prepared)

    def write(self, w: Writer) -> None:
        e, experts = w.e, self.experts
        arithmetic = arithmetic_of(experts.form, w.isa, many=False)
        factors = factors_of(w, arithmetic, self.x, self.prepared, shared=self.shared)
        low, high = w.share(e.index(experts.tiles))

        def one(row: Ssa) -> tuple[()]:
            expert = e.load(w.address(self.ids, [row]), I64)
            base, bias = w.base(self.stored), None
            weights = e.offset(base, e.mul(expert, e.index(experts.expert_bytes)))
            if experts.bias_offset is not None:
                bias = e.offset(base, e.index(experts.bias_offset))
                bias = e.offset(bias, e.mul(expert, e.index(experts.tiles * LANES * 4)))
            block = Block(experts.form, arithmetic, factors, self.out, bias)

            def some(tile: Ssa) -> tuple[()]:
                place = e.offset(weights, e.mul(tile, e.index(experts.form.tile_bytes)))
                block.write(w, row, tile, place, 1, 1)
                return ()

            e.loop(low, high, 1, some)
            return ()

        e.loop(e.index(0), w.size(self.x.shape[0]), 1, one)


def factors_of(
    w: Writer, arithmetic: Arithmetic, x: View, prepared: View | None, *, shared: bool
) -> View:
    """x [R, K] in the form that the arithmetic reads, made by every thread or by all together."""
    if not arithmetic.prepares:
        return x
    assert prepared is not None, "what prepares x has room for it"
    target = View(prepared.buffer, x.shape, (prepared.strides[0], 1))

    def row(out: Ssa, source: Ssa) -> None:
        arithmetic.prepare(w, x, source, out, x.columns)

    w.rows([target, x], shared, row)
    if shared:
        w.wait()
    return prepared


@dataclass(frozen=True)
class Block:
    """The sums of some rows and some tiles of a product."""

    form: TileForm
    arithmetic: Arithmetic
    factors: View
    out: View
    bias: Ssa | None

    def write(self, w: Writer, row: Ssa, tile: Ssa, weights: Ssa, rows: int, tiles: int) -> None:
        """`rows` rows and `tiles` tiles from `row` and `tile` on, which begins at `weights`."""
        e, form, arithmetic = w.e, self.form, self.arithmetic
        xs = [w.address(self.factors, [e.add(row, e.index(place))]) for place in range(rows)]
        panels = [e.offset(weights, e.index(place * form.tile_bytes)) for place in range(tiles)]

        def behind(step: Ssa) -> tuple[list[Ssa], list[Ssa]]:
            left = e.mul(step, e.index(arithmetic.x_bytes))
            right = e.mul(step, e.index(arithmetic.panel_bytes))
            return [e.offset(x, left) for x in xs], [e.offset(panel, right) for panel in panels]

        sums = Sums.zero(e, rows, tiles, w.isa.sums_in_flight)
        steps = form.inner // arithmetic.group
        unrolled = max(1, _UNROLLED // arithmetic.group)
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
        if form.inner % arithmetic.group:
            arithmetic.odd(w, sums, *behind(e.index(steps)))
        self._store(w, sums, row, tile)

    def _store(self, w: Writer, sums: Sums, row: Ssa, tile: Ssa) -> None:
        e = w.e
        for place in range(sums.rows):
            out = w.address(self.out, [e.add(row, e.index(place))])
            for number in range(sums.tiles):
                column = e.mul(e.add(tile, e.index(number)), e.index(LANES * 4))
                total = sums.total(e, place, number)
                if self.bias is not None:
                    total = e.add(total, e.load(e.offset(self.bias, column), total.type))
                e.store(total, e.offset(out, column))


def arithmetic_of(form: TileForm, isa: Isa, *, many: bool) -> Arithmetic:
    """The fastest that the instructions of `isa` have for a matrix.

    With few rows memory is the limit, and x of bf16 can as well stay exact.
    """
    if form.format is not None:
        if not (isa.byte_dots_of_many if many else isa.byte_dots):
            return Widened(form.format)
        # One term would be cheaper in prefill, and changed which token came out as the best.
        return IntegerDots(form.format, terms=2)
    if form.element == "bf16" and isa.dots and many:
        return Dots()
    return MultiplyAdd(form.element, form.pair)
