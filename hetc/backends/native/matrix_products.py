"""Products of many rows (prefill): arithmetic is the limit, and what is read serves many rows.

A ticket is a panel, some tiles that are multiplied together, and a span of rows. Quantized and
coded tiles are first brought to the form that the inner loop multiplies, in memory of the thread;
the panel is small enough to stay in the cache while the rows pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hetc.backends.native.arithmetic import Arithmetic, Dots, MultiplyAdd
from hetc.backends.native.coded_arithmetic import PlainPanel
from hetc.backends.native.isa import Isa
from hetc.backends.native.panels import BytePanel, GroupPanel, PairPanel, WidePanel
from hetc.backends.native.products import (
    Block,
    OfMatrix,
    bias_of,
    factors_of,
    store_sums,
    tile_address,
)
from hetc.backends.native.ssa import Ssa
from hetc.backends.native.tiles import TileForm
from hetc.backends.native.views import View
from hetc.backends.native.writer import Writer

# So many rows outweigh the work of making a panel, and leave enough tickets to share out evenly.
_SPAN = 128


class Kernel(Protocol):
    """How a panel of `tiles` tiles meets `rows` rows at a time."""

    @property
    def rows(self) -> int: ...

    @property
    def tiles(self) -> int: ...

    def panel(self, w: Writer, weights: Ssa, tiles: int) -> Ssa:
        """Where the panel is that is made of the tiles at `weights`."""
        ...

    def write(self, w: Writer, rows: Sequence[Ssa], tile: Ssa, panel: Ssa, tiles: int) -> None:
        """The sums of `rows` and of the tiles from `tile` on, which are those of `panel`."""
        ...


@dataclass(frozen=True)
class AsStored:
    """Tiles are multiplied as they lie in the file, or as `wide` makes them of these."""

    rows: int
    tiles: int
    block: Block
    wide: WidePanel | PlainPanel | None
    place: Ssa | None

    def panel(self, w: Writer, weights: Ssa, tiles: int) -> Ssa:
        if self.wide is None or self.place is None:
            return weights
        self.wide.make(w, weights, tiles, self.place)
        return self.place

    def write(self, w: Writer, rows: Sequence[Ssa], tile: Ssa, panel: Ssa, tiles: int) -> None:
        self.block.write(w, rows, tile, panel, tiles)


@dataclass(frozen=True)
class InGroups:
    """Tiles are brought to a panel of their groups."""

    groups: GroupPanel
    place: Ssa
    factors: View
    out: View
    bias: Ssa | None
    tiles: int
    # With three tiles, as many sums of a group as it takes to wait for none, and those of all.
    rows: int = 4

    def panel(self, w: Writer, weights: Ssa, tiles: int) -> Ssa:
        self.groups.make(w, weights, tiles, self.place)
        return self.place

    def write(self, w: Writer, rows: Sequence[Ssa], tile: Ssa, panel: Ssa, tiles: int) -> None:
        xs = [w.address(self.factors, [row]) for row in rows]
        sums = self.groups.sums(w, xs, tiles, panel)
        store_sums(w, sums, self.out, self.bias, rows, tile)


@dataclass(frozen=True)
class MatrixProduct(OfMatrix):
    """The product of many rows: all threads prepare x together and have one counter. `panel` is
    private."""

    panel: View | None

    def write(self, w: Writer) -> None:
        e, kernel = w.e, self._kernel(w)
        total, length = w.size(self.x.shape[0]), e.index(_SPAN)
        spans = e.div(e.add(total, e.index(_SPAN - 1)), length)
        panels, rest = divmod(sum(self.matrix.tiles), kernel.tiles)

        def one(ticket: Ssa) -> None:
            panel, span = e.div(ticket, spans), e.remainder(ticket, spans)
            first = e.mul(span, length)
            rows = first, e.minimum(e.add(first, length), total)
            tile = e.mul(panel, e.index(kernel.tiles))
            # At the end of the matrix, there may be fewer tiles than a panel has.
            is_whole = e.compare("ult", panel, e.index(panels))
            if not rest:
                self._span(w, kernel, tile, kernel.tiles, rows)
            else:
                e.when(
                    is_whole,
                    lambda: self._span(w, kernel, tile, kernel.tiles, rows),
                    lambda: self._span(w, kernel, tile, rest, rows),
                )

        w.draw(self.tickets, e.mul(spans, e.index(panels + bool(rest))), one)

    def _span(
        self, w: Writer, kernel: Kernel, tile: Ssa, tiles: int, rows: tuple[Ssa, Ssa]
    ) -> None:
        e = w.e
        weights = tile_address(w, self.matrix, self.stored, tile)
        panel = kernel.panel(w, weights, tiles)
        last = e.sub(rows[1], e.index(1))

        def block(row: Ssa) -> tuple[()]:
            # Beyond the end, the last row is done again: it costs less than a loop of its own.
            places = [e.minimum(e.add(row, e.index(n)), last) for n in range(kernel.rows)]
            kernel.write(w, places, tile, panel, tiles)
            return ()

        e.loop(*rows, kernel.rows, block)

    def _kernel(self, w: Writer) -> Kernel:
        """The fastest that the instructions have for the matrix, with x prepared for it."""
        form, isa = self.matrix.form, w.isa
        bias = bias_of(w, self.matrix, self.stored)
        place = None if self.panel is None else w.address(self.panel)
        if form.format is not None and place is not None and (isa.dots or isa.byte_dots_of_many):
            # As fast as bytes in two terms, and less beside it for every group.
            groups = PairPanel(form) if isa.dots else BytePanel(form)
            factors = factors_of(w, groups.x, self.x, self.prepared, shared=True)
            return InGroups(groups, place, factors, self.out, bias, isa.block_tiles)
        wide: WidePanel | PlainPanel | None = None
        if form.format is not None:
            wide = WidePanel(form)
        elif form.coded is not None:
            wide = PlainPanel(form.coded)
        arithmetic = arithmetic_of_many(form, isa)
        form = form if wide is None else wide.wide
        factors = factors_of(w, arithmetic, self.x, self.prepared, shared=True)
        block = Block(form, arithmetic, factors, self.out, bias)
        return AsStored(isa.block_rows, isa.block_tiles, block, wide, place)


def arithmetic_of_many(form: TileForm, isa: Isa) -> Arithmetic:
    """What multiplies numbers that are stored one by one, or were quantized and are f32 again."""
    if form.format is not None:
        return MultiplyAdd("f32", 1)
    return Dots() if form.element == "bf16" and isa.dots else MultiplyAdd(form.element, form.pair)
