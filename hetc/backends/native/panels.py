"""Quantized tiles in the form that many rows are multiplied with, made once and read many times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hetc.backends.native.blocks import LINE
from hetc.backends.native.integer_arithmetic import (
    TERM_BITS,
    WORDS,
    Blocks,
    IntegerDots,
    as_bytes,
    byte_dot,
)
from hetc.backends.native.ssa import F32, I32, LANES, Ssa, vector
from hetc.backends.native.tiles import TileForm
from hetc.backends.native.writer import Writer

# Of a panel, on any CPU.
MOST_TILES = 3
_VECTOR = 4 * LANES


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
class BytePanel:
    """Where fours of bytes are multiplied: group by group, of each tile its q as bytes in lines
    `[16][4]`, then 16 scales and 16 lows as f32."""

    form: TileForm

    def make(self, w: Writer, weights: Ssa, tiles: int, panel: Ssa) -> None:
        """Bring `tiles` tiles from `weights` to `panel`."""
        e, blocks = w.e, _blocks(self.form)

        def one(group: Ssa) -> tuple[()]:
            for tile, block in enumerate(_of_tiles(w, self.form, weights, tiles, group)):
                out = self._place(w, panel, tiles, tile, group)
                vectors = [*blocks.lines(e, block), *blocks.scale_and_low(w, block)]
                for number, line in enumerate(vectors):
                    e.store(line, e.offset(out, e.index(LINE * number)))
            return ()

        e.loop(e.index(0), e.index(self.form.inner // blocks.group), 1, one)

    def sums(self, w: Writer, xs: Sequence[Ssa], tiles: int, panel: Ssa) -> list[list[Ssa]]:
        """Every row of `xs`, as `arithmetic` prepares them, times every tile."""
        e, arithmetic = w.e, self.arithmetic
        lines = arithmetic.group // 4
        zero, none = e.constant("0", WORDS), e.constant("0.0", vector(LANES, F32))

        def one(group: Ssa, *totals: Ssa) -> list[Ssa]:
            places = [self._place(w, panel, tiles, tile, group) for tile in range(tiles)]
            near = [e.offset(x, e.mul(group, e.index(arithmetic.x_bytes))) for x in xs]
            dots = [[zero] * tiles for _ in xs]
            for term in range(arithmetic.terms):
                if term:
                    # What the upper bytes gave counts so much more than what the next will.
                    bits = e.constant(str(TERM_BITS), WORDS)
                    dots = [[e.arith("shli", dot, bits) for dot in row] for row in dots]
                for line in range(lines):
                    q = [e.load(e.offset(at, e.index(LINE * line)), WORDS) for at in places]
                    for row, x in zip(dots, near, strict=True):
                        place = e.index(arithmetic.group * term + 4 * line)
                        four = as_bytes(e, e.splat(e.load(e.offset(x, place), I32), LANES))
                        for tile in range(tiles):
                            row[tile] = byte_dot(e, row[tile], as_bytes(e, q[tile]), four)
            found = iter(totals)
            return [
                self._scaled(w, next(found), dot, place, x)
                for row, x in zip(dots, near, strict=True)
                for dot, place in zip(row, places, strict=True)
            ]

        groups = self.form.inner // arithmetic.group
        ended = e.loop(e.index(0), e.index(groups), 1, one, [none] * (len(xs) * tiles))
        return [list(ended[row * tiles :][:tiles]) for row in range(len(xs))]

    def _scaled(self, w: Writer, total: Ssa, dot: Ssa, place: Ssa, x: Ssa) -> Ssa:
        """`total` and what a group of x and of a tile give."""
        e, arithmetic = w.e, self.arithmetic
        after = arithmetic.group * arithmetic.terms
        x_scale, x_sum = (
            e.splat(e.load(e.offset(x, e.index(after + 4 * number)), F32), LANES)
            for number in range(2)
        )
        scale, low = (
            e.load(
                e.offset(place, e.index(arithmetic.group // 4 * LINE + _VECTOR * number)),
                vector(LANES, F32),
            )
            for number in range(2)
        )
        total = e.fma(low, x_sum, total)
        return e.fma(e.mul(e.convert("sitofp", dot, F32), x_scale), scale, total)

    @property
    def arithmetic(self) -> IntegerDots:
        """What prepares x: it has 15 bits."""
        assert self.form.format is not None
        return IntegerDots(self.form.format, terms=2)

    def _place(self, w: Writer, panel: Ssa, tiles: int, tile: int, group: Ssa) -> Ssa:
        e = w.e
        nbytes = self.arithmetic.group // 4 * LINE + 2 * _VECTOR
        place = e.add(e.mul(group, e.index(tiles * nbytes)), e.index(tile * nbytes))
        return e.offset(panel, place)


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
