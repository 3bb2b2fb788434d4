"""Quantized tiles in the form that many rows are multiplied with, made once and read many times."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from hetc.backends.native.arithmetic import PAIRS, Preparation, same_pair
from hetc.backends.native.blocks import LINE
from hetc.backends.native.dots import byte_dot, pair_dot
from hetc.backends.native.integer_arithmetic import (
    TERM_BITS,
    WORDS,
    Blocks,
    IntegerDots,
    as_bytes,
)
from hetc.backends.native.isa import VARIANTS
from hetc.backends.native.ssa import F32, I32, LANES, Ssa, vector
from hetc.backends.native.tiles import TileForm
from hetc.backends.native.views import View
from hetc.backends.native.writer import Writer

# Of a panel, on any CPU.
MOST_TILES = max(isa.block_tiles for isa in VARIANTS)
_VECTOR = 4 * LANES
_FLOATS = vector(LANES, F32)


@dataclass(frozen=True)
class WidePanel:
    """For any CPU: all numbers as f32, in tiles `[K][16]` as a matrix of f32 has them."""

    form: TileForm

    @property
    def wide(self) -> TileForm:
        """How the tiles of the panel lie."""
        return TileForm(self.form.inner, F32)

    def make(self, w: Writer, weights: Ssa, tiles: int, panel: Ssa) -> None:
        """Bring `tiles` tiles from `weights` to `panel`."""
        e, blocks = w.e, _blocks(self.form)
        mask = e.constant("255", WORDS)

        def one(group: Ssa) -> tuple[()]:
            for tile, block in enumerate(_of_tiles(w, self.form, weights, tiles, group)):
                place = e.mul(group, e.index(blocks.group * _VECTOR))
                place = e.add(place, e.index(tile * self.wide.tile_bytes))
                out = e.offset(panel, place)
                scale, low = blocks.scale_and_low(w, block)
                for number, line in enumerate(blocks.lines(e, block)):
                    for byte in range(4):
                        shifted = e.arith("shrui", line, e.constant(str(8 * byte), WORDS))
                        q = e.convert("sitofp", e.arith("andi", shifted, mask), F32)
                        step = e.index((4 * number + byte) * _VECTOR)
                        e.store(e.fma(scale, q, low), e.offset(out, step))
            return ()

        e.loop(e.index(0), e.index(self.form.inner // blocks.group), 1, one)


@dataclass(frozen=True)
class GroupPanel(ABC):
    """Group by group, of each tile its q in lines of 64 bytes, then 16 scales and lows as f32."""

    form: TileForm

    @property
    @abstractmethod
    def x(self) -> Preparation:
        """What prepares x: a group of it ends with its sum, as f32."""

    @property
    @abstractmethod
    def lines(self) -> int:
        """Lines of q that a group has."""

    @abstractmethod
    def _q(self, w: Writer, block: Ssa) -> list[Ssa]:
        """The lines of q of a block."""

    @abstractmethod
    def _dots(self, w: Writer, xs: Sequence[Ssa], places: Sequence[Ssa]) -> list[list[Ssa]]:
        """sum(q * x) of every group of x and each tile, which begins at its place."""

    @property
    def _blocks(self) -> Blocks:
        return _blocks(self.form)

    def make(self, w: Writer, weights: Ssa, tiles: int, panel: Ssa) -> None:
        """Bring `tiles` tiles from `weights` to `panel`."""
        e = w.e

        def one(group: Ssa) -> tuple[()]:
            for tile, block in enumerate(_of_tiles(w, self.form, weights, tiles, group)):
                out = self._place(w, panel, tiles, tile, group)
                vectors = [*self._q(w, block), *self._blocks.scale_and_low(w, block)]
                for number, line in enumerate(vectors):
                    e.store(line, e.offset(out, e.index(LINE * number)))
            return ()

        e.loop(e.index(0), e.index(self.form.inner // self._blocks.group), 1, one)

    def sums(self, w: Writer, xs: Sequence[Ssa], tiles: int, panel: Ssa) -> list[list[Ssa]]:
        """Every row of `xs`, as `x` prepares them, times every tile."""
        e, none = w.e, w.e.constant("0.0", _FLOATS)

        def one(group: Ssa, *totals: Ssa) -> list[Ssa]:
            places = [self._place(w, panel, tiles, tile, group) for tile in range(tiles)]
            near = [e.offset(x, e.mul(group, e.index(self.x.x_bytes))) for x in xs]
            left, found = iter(totals), []
            for x, row in zip(near, self._dots(w, near, places), strict=True):
                sum = e.splat(e.load(e.offset(x, e.index(self.x.x_bytes - 4)), F32), LANES)
                for dot, place in zip(row, places, strict=True):
                    scale, *low = self._numbers(w, place)
                    total = next(left)
                    for number in low:
                        total = e.fma(number, sum, total)
                    found.append(e.fma(scale, dot, total))
            return found

        groups = e.index(self.form.inner // self._blocks.group)
        ended = e.loop(e.index(0), groups, 1, one, [none] * (len(xs) * tiles))
        return [list(ended[row * tiles :][:tiles]) for row in range(len(xs))]

    @property
    def has_low(self) -> bool:
        """Whether q alone does not say where zero is."""
        return True

    def _numbers(self, w: Writer, place: Ssa) -> list[Ssa]:
        e = w.e
        count = 2 if self.has_low else 1
        return [
            e.load(e.offset(place, e.index(LINE * (self.lines + number))), _FLOATS)
            for number in range(count)
        ]

    def _place(self, w: Writer, panel: Ssa, tiles: int, tile: int, group: Ssa) -> Ssa:
        e, nbytes = w.e, LINE * (self.lines + 2)
        place = e.add(e.mul(group, e.index(tiles * nbytes)), e.index(tile * nbytes))
        return e.offset(panel, place)


@dataclass(frozen=True)
class BytePanel(GroupPanel):
    """Where fours of bytes are multiplied: lines `[16][4]` of bytes; x has 15 bits."""

    @property
    def x(self) -> IntegerDots:
        assert self.form.format is not None, "a quantized matrix"
        return IntegerDots(self.form.format, terms=2)

    @property
    def lines(self) -> int:
        return self._blocks.group // 4

    def _q(self, w: Writer, block: Ssa) -> list[Ssa]:
        return self._blocks.lines(w.e, block)

    def _dots(self, w: Writer, xs: Sequence[Ssa], places: Sequence[Ssa]) -> list[list[Ssa]]:
        e, arithmetic = w.e, self.x
        dots = [[e.constant("0", WORDS)] * len(places) for _ in xs]
        for term in range(arithmetic.terms):
            if term:
                # What the upper bytes gave counts so much more than what the next will.
                bits = e.constant(str(TERM_BITS), WORDS)
                dots = [[e.arith("shli", dot, bits) for dot in row] for row in dots]
            for line in range(self.lines):
                lines = [e.offset(at, e.index(LINE * line)) for at in places]
                q = [e.load(line, WORDS, again=term > 0) for line in lines]
                for row, x in zip(dots, xs, strict=True):
                    at = e.index(arithmetic.group * term + 4 * line)
                    four = as_bytes(e, e.splat(e.load(e.offset(x, at), I32), LANES))
                    for tile in range(len(places)):
                        row[tile] = byte_dot(e, row[tile], as_bytes(e, q[tile]), four)
        scales = [e.offset(x, e.index(arithmetic.group * arithmetic.terms)) for x in xs]
        return [
            [
                e.mul(e.convert("sitofp", dot, F32), e.splat(e.load(scale, F32), LANES))
                for dot in row
            ]
            for row, scale in zip(dots, scales, strict=True)
        ]


@dataclass(frozen=True)
class PairPanel(GroupPanel):
    """Where pairs of bf16 are multiplied: lines `[16][2]` of bf16, which holds every q; x is
    rounded."""

    @property
    def x(self) -> GroupsOfPairs:
        return GroupsOfPairs(self._blocks.group)

    @property
    def lines(self) -> int:
        return self._blocks.group // 2

    @property
    def has_low(self) -> bool:
        return self._blocks.format.offset != "middle"

    def _q(self, w: Writer, block: Ssa) -> list[Ssa]:
        e, format = w.e, self._blocks.format
        mask, found = e.constant("255", WORDS), []

        def number(line: Ssa, byte: int) -> Ssa:
            """The bits of the f32: its lower half is 0."""
            q = e.arith("andi", e.arith("shrui", line, e.constant(str(8 * byte), WORDS)), mask)
            if not self.has_low:
                q = e.sub(q, e.constant(str(format.middle), WORDS))
            return e.convert("bitcast", e.convert("sitofp", q, F32), I32)

        for line in self._blocks.lines(e, block):
            for byte in (0, 2):
                first = e.arith("shrui", number(line, byte), e.constant("16", WORDS))
                found.append(e.arith("ori", first, number(line, byte + 1)))
        return found

    def _dots(self, w: Writer, xs: Sequence[Ssa], places: Sequence[Ssa]) -> list[list[Ssa]]:
        e = w.e
        dots = [[e.constant("0.0", _FLOATS)] * len(places) for _ in xs]
        for line in range(self.lines):
            q = [e.load(e.offset(at, e.index(LINE * line)), PAIRS) for at in places]
            for row, x in zip(dots, xs, strict=True):
                pair = same_pair(e, e.offset(x, e.index(4 * line)))
                for tile in range(len(places)):
                    row[tile] = pair_dot(e, row[tile], pair, q[tile])
        return dots


@dataclass(frozen=True)
class GroupsOfPairs:
    """A row of x in groups: its numbers rounded to bf16, and the sum of these."""

    group: int
    prepares = True

    @property
    def x_bytes(self) -> int:
        return 2 * self.group + 4

    def prepare(self, w: Writer, view: View, x: Ssa, out: Ssa, count: int) -> None:
        e = w.e

        def one(group: Ssa) -> tuple[()]:
            there = e.offset(out, e.mul(group, e.index(self.x_bytes)))
            sum = e.constant("0.0", _FLOATS)
            for at in range(0, self.group, LANES):
                column = e.add(e.mul(group, e.index(self.group)), e.index(at))
                narrow = e.convert("truncf", w.lanes(view, x, column, LANES), "bf16")
                e.store(narrow, e.offset(there, e.index(2 * at)))
                sum = e.add(sum, e.convert("extf", narrow, F32))
            e.store(e.reduce("add", sum), e.offset(there, e.index(2 * self.group)))
            return ()

        e.loop(e.index(0), e.index(count // self.group), 1, one)


def panel_floats(form: TileForm, tiles: int) -> int:
    """Numbers of f32 that have the room of the largest form of a panel."""
    return tiles * form.inner * LANES


def _blocks(form: TileForm) -> Blocks:
    assert form.format is not None, "a quantized matrix"
    return Blocks(form.format)


def _of_tiles(w: Writer, form: TileForm, weights: Ssa, tiles: int, group: Ssa) -> list[Ssa]:
    """Where the blocks of one group are in each of some tiles."""
    e = w.e
    first = e.offset(weights, e.mul(group, e.index(_blocks(form).panel_bytes)))
    return [e.offset(first, e.index(tile * form.tile_bytes)) for tile in range(tiles)]
