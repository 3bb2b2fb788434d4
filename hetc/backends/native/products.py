"""Products with stored matrices: the stage that reads most of the bytes and does most of the work.

A thread takes a share of the tiles, for all rows. Of some rows and some tiles the sums stay in
registers while the code walks along K. With few sums, each is kept in several parts, so that one
multiplication need not wait for the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hetc.backends.native.arithmetic import Arithmetic, MultiplyAdd, Preparation, Sums
from hetc.backends.native.coded import LINE, Coded
from hetc.backends.native.coded_arithmetic import CodedMultiplyAdd, Tables
from hetc.backends.native.integer_arithmetic import IntegerDots, Widened
from hetc.backends.native.isa import Isa
from hetc.backends.native.ssa import I64, LANES, Ssa
from hetc.backends.native.storage import Experts, Matrix
from hetc.backends.native.tiles import TileForm
from hetc.backends.native.views import View
from hetc.backends.native.writer import Writer

# Numbers along K in one turn of the inner loop.
_UNROLLED = 16
# A thread takes its share in so many runs, or fewer: of some tiles each, and few to draw.
_MOST_RUNS, _TILES_OF_A_RUN = 24, 4


@dataclass(frozen=True)
class OfMatrix:
    """`out` [R, tiles * 16] = `x` [R, K] times all matrices of `matrix`, plus their biases.

    `stored` is the buffer that holds the matrix. `prepared` has a row for each of x, where the
    matrix may be multiplied by another form of it. Threads draw what is next from counters in
    `tickets`: one that is slow, or has no core for a while, does less.
    """

    matrix: Matrix
    stored: str
    x: View
    out: View
    prepared: View | None
    tickets: View

    @property
    def reads(self) -> tuple[View, ...]:
        return (self.x,)

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.out,) if self.prepared is None else (self.out, self.prepared)


class Product(OfMatrix):
    """The product of few rows; `matrix_products.py` has that of many.

    Every thread prepares x for itself, and has a counter of its own.
    """

    def write(self, w: Writer) -> None:
        arithmetic = arithmetic_of(self.matrix.form, w.isa)
        factors = factors_of(w, arithmetic, self.x, self.prepared, shared=False)
        bias = bias_of(w, self.matrix, self.stored)
        self._in_runs(w, Block(self.matrix.form, arithmetic, factors, self.out, bias))

    def _in_runs(self, w: Writer, block: Block) -> None:
        """Memory is the limit: a thread reads its tiles one behind the other, as one stream. Each
        jump to another place costs about 0.5 us, until the CPU reads ahead there."""
        tiles, sizes = sum(self.matrix.tiles), _halves(w.isa.block_rows)

        def run(low: Ssa, high: Ssa) -> None:
            w.e.loop(low, high, 1, lambda tile: self._tile(w, block, tile, sizes))

        runs = max(1, min(_MOST_RUNS, tiles // _TILES_OF_A_RUN))
        w.draw_runs(self.tickets, tiles, runs, run)

    def _tile(self, w: Writer, block: Block, tile: Ssa, sizes: Sequence[int]) -> tuple[()]:
        """One tile for all rows, as many at a time as each of `sizes` says."""
        e, total, begin = w.e, w.size(self.x.shape[0]), w.e.index(0)
        weights = tile_address(w, self.matrix, self.stored, tile)
        for size in sizes:
            end = total
            if size > 1:
                several = e.index(size)
                end = e.add(begin, e.mul(e.div(e.sub(total, begin), several), several))

            def some(row: Ssa, size: int = size) -> tuple[()]:
                rows = [e.add(row, e.index(place)) for place in range(size)]
                block.write(w, rows, tile, weights, 1)
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
        arithmetic = arithmetic_of(experts.form, w.isa)
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
                block.write(w, [row], tile, place, 1)
                return ()

            e.loop(low, high, 1, some)
            return ()

        e.loop(e.index(0), w.size(self.x.shape[0]), 1, one)


def factors_of(
    w: Writer, arithmetic: Preparation, x: View, prepared: View | None, *, shared: bool
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
    """The sums of some rows and some tiles of a product; `order` [R] has the number that each row
    has in `out`, where that is another."""

    form: TileForm
    arithmetic: Arithmetic
    factors: View
    out: View
    bias: Ssa | None
    order: View | None = None

    def write(self, w: Writer, rows: Sequence[Ssa], tile: Ssa, weights: Ssa, tiles: int) -> None:
        """The sums of `rows` and of `tiles` tiles from `tile` on, which begins at `weights`."""
        e, form, arithmetic = w.e, self.form, self.arithmetic
        xs = [w.address(self.factors, [row]) for row in rows]
        panels = [e.offset(weights, e.index(place * form.tile_bytes)) for place in range(tiles)]

        sums = Sums.zero(e, len(rows), tiles, w.isa.sums_in_flight)
        if form.coded is None:
            sums = _along(w, arithmetic, sums, xs, panels, form.inner)
        else:
            sums = _in_chunks(w, form.coded, sums, xs, panels)
        totals = [[sums.total(e, row, number) for number in range(tiles)] for row in range(len(xs))]
        if self.order is not None:
            rows = [e.load(w.address(self.order, [row]), I64) for row in rows]
        store_sums(w, totals, self.out, self.bias, rows, tile)


def _along(
    w: Writer,
    arithmetic: Arithmetic,
    sums: Sums,
    xs: Sequence[Ssa],
    panels: Sequence[Ssa],
    inner: int,
) -> Sums:
    """`sums` and the products of `inner` numbers behind the addresses of rows and tiles."""
    e = w.e

    def behind(step: Ssa) -> tuple[list[Ssa], list[Ssa]]:
        left = e.mul(step, e.index(arithmetic.x_bytes))
        right = e.mul(step, e.index(arithmetic.panel_bytes))
        return [e.offset(x, left) for x in xs], [e.offset(panel, right) for panel in panels]

    steps = inner // arithmetic.group
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
    if inner % arithmetic.group:
        arithmetic.odd(w, sums, *behind(e.index(steps)))
    return sums


def _in_chunks(
    w: Writer, coded: Coded, sums: Sums, xs: Sequence[Ssa], panels: Sequence[Ssa]
) -> Sums:
    """The same of coded tiles, chunk by chunk, each with tables of its own."""
    e = w.e

    def one(number: Ssa, *carried: Ssa) -> list[Ssa]:
        place = e.mul(number, e.index(coded.chunk_bytes))
        chunks = [e.offset(panel, place) for panel in panels]
        arithmetic = CodedMultiplyAdd(tuple(Tables.load(w, chunk) for chunk in chunks))
        left = e.mul(number, e.index(4 * coded.chunk))
        near = [e.offset(x, left) for x in xs]
        blocks = [e.offset(chunk, e.index(LINE)) for chunk in chunks]
        return _along(w, arithmetic, sums.holding(carried), near, blocks, coded.chunk).values

    chunks = e.index(coded.inner // coded.chunk)
    return sums.holding(e.loop(e.index(0), chunks, 1, one, sums.values))


def store_sums(
    w: Writer,
    sums: Sequence[Sequence[Ssa]],
    out: View,
    bias: Ssa | None,
    rows: Sequence[Ssa],
    tile: Ssa,
) -> None:
    """Put `sums` [rows, tiles] where `rows` and the tiles from `tile` on are in `out`, with the
    bias that begins at `bias`."""
    e = w.e
    for row, tiles in zip(rows, sums, strict=True):
        start = w.address(out, [row])
        for number, total in enumerate(tiles):
            column = e.mul(e.add(tile, e.index(number)), e.index(LANES * 4))
            if bias is not None:
                total = e.add(total, e.load(e.offset(bias, column), total.type))
            e.store(total, e.offset(start, column))


def tile_address(w: Writer, matrix: Matrix, stored: str, tile: Ssa) -> Ssa:
    """Where a tile of a matrix begins."""
    return w.e.offset(w.base(stored), w.e.mul(tile, w.e.index(matrix.form.tile_bytes)))


def bias_of(w: Writer, matrix: Matrix, stored: str) -> Ssa | None:
    """Where the biases of a matrix begin."""
    if matrix.bias_offset is None:
        return None
    return w.e.offset(w.base(stored), w.e.index(matrix.bias_offset))


def arithmetic_of(form: TileForm, isa: Isa) -> Arithmetic:
    """What is best for few rows: memory is the limit, and x can as well stay as exact as it is."""
    if form.format is not None:
        return IntegerDots(form.format, terms=2) if isa.byte_dots else Widened(form.format)
    return MultiplyAdd(form.element, form.pair)
