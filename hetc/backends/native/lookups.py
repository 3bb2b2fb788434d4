"""Embeddings: rows of a table by token ids, in whichever form the table is stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hetc.backends.native.blocks import LINE, BlockFormat
from hetc.backends.native.coded import BLOCK, OTHER, STEPS, TABLE, Coded
from hetc.backends.native.ssa import BYTES, I32, I64, LANES, Ssa
from hetc.backends.native.views import View
from hetc.backends.native.writer import Writer


@dataclass(frozen=True)
class Lookup:
    """Rows of a row-major `table` [N, H] by `ids`, into `out` [..., H]."""

    table: View
    ids: View
    out: View
    split: bool

    @property
    def reads(self) -> tuple[View, ...]:
        return (self.table, self.ids)

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.out,)

    def write(self, w: Writer) -> None:
        def row(out: Ssa, place: Ssa) -> None:
            source = w.address(self.table, [w.e.load(place, I64)])

            def some(column: Ssa, lanes: int) -> tuple[()]:
                w.put(w.lanes(self.table, source, column, lanes), self.out, out, column)
                return ()

            w.columns(self.out.columns, some)

        w.rows([self.out, _beside(self.ids, self.out)], self.split, row)


@dataclass(frozen=True)
class TileLookup:
    """Rows of a matrix that lies in tiles, for embeddings that share their table with the logits.

    `table` is [tiles, K, 16]; with `pair` 2, [tiles, K/2, 16, 2].
    """

    table: View
    pair: int
    ids: View
    out: View
    split: bool

    @property
    def reads(self) -> tuple[View, ...]:
        return (self.table, self.ids)

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.out,)

    def write(self, w: Writer) -> None:
        e = w.e
        lanes_each, pair = e.index(LANES), self.pair

        def row(out: Ssa, place: Ssa) -> None:
            number = e.load(place, I64)
            tile, lane = e.div(number, lanes_each), e.remainder(number, lanes_each)
            index = [tile, e.index(0), lane]
            start = w.address(self.table, index)
            column = View(self.table.buffer, (self.out.columns,), (self.table.strides[1],))

            def some(at: Ssa, lanes: int) -> tuple[()]:
                w.put(self._gather(w, start, column, at, lanes), self.out, out, at)
                return ()

            w.columns(self.out.columns, some)

        assert pair in (1, 2)
        w.rows([self.out, _beside(self.ids, self.out)], self.split, row)

    def _gather(self, w: Writer, start: Ssa, column: View, at: Ssa, lanes: int) -> Ssa:
        if self.pair == 1:
            return w.lanes(column, start, at, lanes)
        # Two numbers along K lie side by side, and the next two a step further.
        e, element = w.e, w.element(column)
        step = column.strides[0]
        first = e.offset(start, e.mul(e.div(at, e.index(2)), w.size(step * 2)))
        offsets = [w.size(lane // 2 * step * 2 + lane % 2 * 2) for lane in range(lanes)]
        return w.gathered(first, offsets, element)


# The number at a column of a lane of the tile that begins at an address, as f32.
Number = Callable[[Writer, Ssa, Ssa, Ssa], Ssa]


@dataclass(frozen=True)
class PackedLookup:
    """Rows of a matrix in tiles of which `number` reads one number, from byte `start` of `buffer`
    on."""

    buffer: str
    start: int
    tile_bytes: int
    number: Number
    ids: View
    out: View
    split: bool

    @property
    def reads(self) -> tuple[View, ...]:
        return (self.ids,)

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.out,)

    def write(self, w: Writer) -> None:
        e = w.e

        def row(out: Ssa, place: Ssa) -> None:
            number = e.load(place, I64)
            tile, lane = e.div(number, e.index(LANES)), e.remainder(number, e.index(LANES))
            first = e.offset(w.base(self.buffer), e.index(self.start))
            first = e.offset(first, e.mul(tile, e.index(self.tile_bytes)))

            def one(column: Ssa) -> tuple[()]:
                w.put(self.number(w, first, lane, column), self.out, out, column)
                return ()

            e.loop(e.index(0), e.index(self.out.columns), 1, one)

        w.rows([self.out, _beside(self.ids, self.out)], self.split, row)


def _beside(ids: View, out: View) -> View:
    """`ids` [...] for every row of `out` [..., H]."""
    shown = replace(ids, shape=(*ids.shape, 1), strides=(*ids.strides, 1))
    return shown.broadcast(out.shape)


def number_of_block(format: BlockFormat, w: Writer, tile: Ssa, lane: Ssa, column: Ssa) -> Ssa:
    """Of a quantized matrix; see `blocks.py`."""
    e = w.e
    each = e.index(format.group)
    group, step = e.div(column, each), e.remainder(column, each)
    block = e.offset(tile, e.mul(group, e.index(format.nbytes)))
    line, byte = e.div(step, e.index(4)), e.remainder(step, e.index(4))
    shift = e.index(0)
    if format.bits == 4:
        # The second of two lines is in the upper halves.
        shift, line = e.mul(e.remainder(line, e.index(2)), e.index(4)), e.div(line, e.index(2))
    place = e.offset(block, e.add(e.mul(line, e.index(LINE)), byte))
    stored = e.load(e.offset(place, e.mul(lane, e.index(4))), "i8")
    q = e.convert("extui", stored, I32)
    if format.bits == 4:
        narrow = e.convert("trunci", shift, I32)
        q = e.arith("andi", e.arith("shrui", q, narrow), e.constant("15", I32))
    number = e.convert("uitofp", q, "f32")

    def beside(place: int, element: str) -> Ssa:
        there = e.offset(block, e.add(e.index(place), e.mul(lane, e.index(BYTES[element]))))
        return w.widened(w.load(there, element))

    scale = beside(format.scale_place, format.numbers)
    if format.offset == "middle":
        return e.mul(scale, e.sub(number, e.number(format.middle, number)))
    more = beside(format.offset_place, format.offset_type)
    if format.offset == "zero":
        return e.mul(scale, e.sub(number, more))
    return e.add(e.mul(scale, number), more)


def coded_number(coded: Coded, w: Writer, tile: Ssa, lane: Ssa, column: Ssa) -> Ssa:
    """Of a matrix of bf16 in 12 bits; see `coded.py`."""
    e = w.e

    def parts(number: Ssa, size: int) -> tuple[Ssa, Ssa]:
        return e.div(number, e.index(size)), e.remainder(number, e.index(size))

    def byte(place: Ssa) -> Ssa:
        return e.convert("extui", e.load(place, "i8"), I64)

    chunk, step = parts(column, coded.chunk)
    begin = e.offset(tile, e.mul(chunk, e.index(coded.chunk_bytes)))
    block, step = parts(step, STEPS)
    line, step = parts(step, STEPS // 2)
    pair, second = parts(step, 2)
    quarter, output = parts(lane, 4)
    inside = e.add(e.mul(quarter, e.index(16)), e.mul(pair, e.index(8)))
    inside = e.add(inside, e.add(e.mul(output, e.index(2)), second))
    codes = e.offset(begin, e.add(e.index(LINE), e.mul(block, e.index(BLOCK))))
    lower = e.offset(codes, e.mul(e.add(line, e.index(1)), e.index(LINE)))
    low = byte(e.offset(lower, inside))
    shifted = e.arith("shrui", byte(e.offset(codes, inside)), e.mul(line, e.index(4)))
    code = e.arith("andi", shifted, e.index(15))
    # Both are looked up: where the lower byte names no other number, the first serves.
    is_other = e.compare("eq", code, e.index(OTHER))
    other = e.select(is_other, low, e.index(0))
    upper_place = e.select(is_other, e.add(other, e.index(TABLE)), code)
    lower_other = byte(e.offset(begin, e.add(other, e.index(2 * TABLE))))
    low = e.select(is_other, lower_other, low)
    bits = e.add(e.mul(byte(e.offset(begin, upper_place)), e.index(256)), low)
    return w.widened(e.convert("trunci", bits, "i16"))
