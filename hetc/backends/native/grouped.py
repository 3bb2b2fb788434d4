"""Products of many rows with one of several matrices each, so that a matrix is read once.

Rows of one matrix stand together: those of an expert are brought there by their order, those of a
head are so already.
"""

from __future__ import annotations

from dataclasses import dataclass

from hetc.backends.native.arithmetic import Arithmetic
from hetc.backends.native.matrix_products import arithmetic_of_many
from hetc.backends.native.products import Block, arithmetic_of
from hetc.backends.native.ssa import I64, LANES, Ssa
from hetc.backends.native.storage import Experts
from hetc.backends.native.views import View
from hetc.backends.native.writer import Writer


@dataclass(frozen=True)
class Order:
    """The rows [R] by their expert: `rows` [R] gets their numbers, those of expert e from `ends[e]`
    to `ends[e+1]` (not included). Every thread counts for itself, in private memory."""

    ids: View
    experts: int
    rows: View
    ends: View

    @property
    def reads(self) -> tuple[View, ...]:
        return (self.ids,)

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.rows, self.ends)

    def write(self, w: Writer) -> None:
        e, zero, one = w.e, w.e.index(0), w.e.index(1)
        count, total = e.index(self.experts), w.size(self.ids.shape[0])

        def clear(place: Ssa) -> tuple[()]:
            e.store(zero, w.address(self.ends, [place]))
            return ()

        def tally(row: Ssa) -> tuple[()]:
            place = self._of_expert(w, row)
            e.store(e.add(e.load(place, I64), one), place)
            return ()

        def begin(expert: Ssa, before: Ssa) -> tuple[Ssa]:
            place = w.address(self.ends, [e.add(expert, one)])
            own = e.load(place, I64)
            e.store(before, place)
            return (e.add(before, own),)

        def put(row: Ssa) -> tuple[()]:
            place = self._of_expert(w, row)
            free = e.load(place, I64)
            e.store(row, w.address(self.rows, [free]))
            # Where all rows are put, the next free place is the end.
            e.store(e.add(free, one), place)
            return ()

        e.loop(zero, e.add(count, one), 1, clear)
        e.loop(zero, total, 1, tally)
        e.loop(zero, count, 1, begin, (zero,))
        e.loop(zero, total, 1, put)

    def _of_expert(self, w: Writer, row: Ssa) -> Ssa:
        expert = w.e.load(w.address(self.ids, [row]), I64)
        return w.address(self.ends, [w.e.add(expert, w.e.index(1))])


@dataclass(frozen=True)
class GroupedProduct:
    """`out` [R, tiles * 16]: rows of `x` [R, K], each times the matrix of its group.

    With `order`, groups are the experts and `prepared` [R, ...] has the rows of x in that order;
    without, each group has as many rows, one group after the other. For `many` rows, all threads
    prepare x together and draw panels of tiles; for few, each prepares x for itself and takes its
    share.
    """

    experts: Experts
    stored: str
    x: View
    out: View
    order: Order | None
    prepared: View
    tickets: View
    many: bool

    @property
    def reads(self) -> tuple[View, ...]:
        return (self.x,)

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.out, self.prepared)

    def write(self, w: Writer) -> None:
        e, experts = w.e, self.experts
        whole = experts.form.format is None
        choose = arithmetic_of_many if self.many and whole else arithmetic_of
        arithmetic = choose(experts.form, w.isa)
        factors = self._factors(w, arithmetic)
        most = w.isa.block_tiles if self.many else 1
        panels, rest = divmod(experts.tiles, most)
        # An expert has few rows, so that those beyond whole blocks count.
        rows = w.isa.block_rows
        sizes = sorted({rows, max(1, rows // 4), 1}, reverse=True)

        def one(ticket: Ssa) -> None:
            each = e.index(panels + rest)
            group, panel = e.div(ticket, each), e.remainder(ticket, each)
            begin, end = self._rows(w, group)
            block = self._block(w, arithmetic, factors, group)

            def several() -> None:
                tile = e.mul(panel, e.index(most))
                self._panel(w, block, group, tile, most, sizes, begin, end)

            def single() -> None:
                tile = e.add(e.sub(panel, e.index(panels)), e.index(panels * most))
                self._panel(w, block, group, tile, 1, sizes, begin, end)

            if rest:
                e.when(e.compare("ult", panel, e.index(panels)), several, single)
            else:
                several()

        w.draw(self.tickets, e.index(experts.count * (panels + rest)), one)

    def _factors(self, w: Writer, arithmetic: Arithmetic) -> View:
        """x in the form that the arithmetic reads, in the order of the groups."""
        e, x = w.e, self.x
        if self.order is None and not arithmetic.prepares:
            return x
        total = w.size(x.shape[0])
        low, high = w.share(total) if self.many else (e.index(0), total)

        def row(place: Ssa) -> tuple[()]:
            number = place
            if self.order is not None:
                number = e.load(w.address(self.order.rows, [place]), I64)
            source, target = w.address(x, [number]), w.address(self.prepared, [place])
            if arithmetic.prepares:
                arithmetic.prepare(w, x, source, target, x.columns)
                return ()

            def some(column: Ssa, lanes: int) -> tuple[()]:
                w.put(w.lanes(x, source, column, lanes), self.prepared, target, column)
                return ()

            w.columns(x.columns, some)
            return ()

        e.loop(low, high, 1, row)
        if self.many:
            w.wait()
        return self.prepared

    def _rows(self, w: Writer, group: Ssa) -> tuple[Ssa, Ssa]:
        """The first row of a group, and the one behind its last."""
        e, behind = w.e, w.e.add(group, w.e.index(1))
        if self.order is None:
            each = e.div(w.size(self.x.shape[0]), e.index(self.experts.count))
            return e.mul(group, each), e.mul(behind, each)
        ends = self.order.ends
        return tuple(e.load(w.address(ends, [place]), I64) for place in (group, behind))  # type: ignore[return-value]

    def _block(self, w: Writer, arithmetic: Arithmetic, factors: View, group: Ssa) -> Block:
        e, experts, bias = w.e, self.experts, None
        if experts.bias_offset is not None:
            bias = e.offset(w.base(self.stored), e.index(experts.bias_offset))
            bias = e.offset(bias, e.mul(group, e.index(experts.tiles * LANES * 4)))
        order = None if self.order is None else self.order.rows
        return Block(experts.form, arithmetic, factors, self.out, bias, order)

    def _panel(
        self,
        w: Writer,
        block: Block,
        group: Ssa,
        tile: Ssa,
        tiles: int,
        sizes: list[int],
        begin: Ssa,
        end: Ssa,
    ) -> None:
        """`tiles` tiles from `tile` on for the rows of a group, as many at once as `sizes` say."""
        e, experts = w.e, self.experts
        weights = e.offset(w.base(self.stored), e.mul(group, e.index(experts.expert_bytes)))
        weights = e.offset(weights, e.mul(tile, e.index(experts.form.tile_bytes)))
        for size in sizes:
            several = e.index(size)
            stop = e.add(begin, e.mul(e.div(e.sub(end, begin), several), several))

            def some(row: Ssa, size: int = size) -> tuple[()]:
                rows = [e.add(row, e.index(place)) for place in range(size)]
                block.write(w, rows, tile, weights, tiles)
                return ()

            e.loop(begin, stop, size, some)
            begin = stop
