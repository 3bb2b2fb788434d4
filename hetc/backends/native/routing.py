"""What chooses experts: softmax and the k largest."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hetc.backends.native import vector_math as fn
from hetc.backends.native.ssa import F32, LANES, Emitter, Ssa, vector
from hetc.backends.native.stages import OfRows
from hetc.backends.native.views import View
from hetc.backends.native.writer import Writer

_LEAST = -3.0e38


@dataclass(frozen=True)
class Softmax(OfRows):
    """`out` = softmax of the rows of `x`; one of -inf gives zeros if it is `safe`, or NaN."""

    safe: bool = False

    def write(self, w: Writer) -> None:
        w.rows([self.out, self.x], self.split, lambda out, x: self._row(w, out, x))

    def _row(self, w: Writer, out: Ssa, x: Ssa) -> None:
        e, count = w.e, self.out.columns

        def largest(column: Ssa, lanes: int, most: Ssa) -> tuple[Ssa]:
            value = w.lanes(self.x, x, column, lanes)
            if lanes < LANES:
                value = e.splat(e.reduce("maximum", value), LANES)
            return (e.maximum(most, value),)

        (most,) = w.columns(count, largest, (e.number(_LEAST, vector(LANES, F32)),))
        level = e.reduce("maximum", most)

        def weigh(column: Ssa, lanes: int, total: Ssa) -> tuple[Ssa]:
            value = e.sub(w.lanes(self.x, x, column, lanes), e.splat(level, lanes))
            weight = fn.exp(e, value)
            w.put(weight, self.out, out, column)
            if lanes < LANES:
                weight = e.insert(e.reduce("add", weight), e.number(0.0, total), 0)
            return (e.add(total, weight),)

        (total,) = w.columns(count, weigh, (e.number(0.0, vector(LANES, F32)),))
        sum = e.reduce("add", total)
        if self.safe:
            # That of any other row is at least the largest's, 1.
            sum = e.maximum(sum, e.number(0.5, sum))
        factor = e.div(e.number(1.0, sum), sum)

        def scale(column: Ssa, lanes: int) -> tuple[()]:
            value = w.lanes(self.out, out, column, lanes)
            w.put(e.mul(value, e.splat(factor, lanes)), self.out, out, column)
            return ()

        w.columns(count, scale)


@dataclass(frozen=True)
class TopK:
    """The `k` largest of every row of `x`, and where they are; ties go to the lower place.

    `scratch` [columns] is private: what was chosen is struck out there.
    """

    x: View
    values: View
    ids: View
    scratch: View
    split: bool

    @property
    def reads(self) -> tuple[View, ...]:
        return (self.x,)

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.values, self.ids)

    def write(self, w: Writer) -> None:
        # Rows of one shape but for their last axis.
        shape = (*self.x.shape[:-1], 1)
        views = [replace(view, shape=shape) for view in (self.values, self.ids, self.x)]
        w.rows(views, self.split, lambda *rows: self._row(w, *rows))

    def _row(self, w: Writer, values: Ssa, ids: Ssa, x: Ssa) -> None:
        e, left = w.e, w.address(self.scratch)
        count = self.x.columns

        def copy(column: Ssa, lanes: int) -> tuple[()]:
            w.put(w.lanes(self.x, x, column, lanes), self.scratch, left, column)
            return ()

        w.columns(count, copy)

        def choose(place: Ssa) -> tuple[()]:
            start = (e.number(float("-inf"), F32), e.index(-1))
            best, where = e.loop(e.index(0), e.index(count), 1, better, start)
            w.put(best, self.values, values, place)
            e.store(where, e.offset(ids, e.mul(place, e.index(8))))
            struck = e.offset(left, e.mul(where, e.index(4)))
            e.store(e.number(float("nan"), F32), struck)
            return ()

        def better(column: Ssa, best: Ssa, where: Ssa) -> tuple[Ssa, Ssa]:
            value = e.load(e.offset(left, e.mul(column, e.index(4))), F32)
            # The first that is left, were it minus infinity; what was struck out is no number.
            none = e.arith("andi", e.compare("slt", where, e.index(0)), _is_number(e, value))
            more = e.arith("ori", e.compare("ogt", value, best), none)
            return e.select(more, value, best), e.select(more, column, where)

        e.loop(e.index(0), e.index(self.values.columns), 1, choose)


def _is_number(e: Emitter, x: Ssa) -> Ssa:
    return e.compare("ord", x, x)
