"""Linear recurrences along the tokens, from a state to the next."""

from __future__ import annotations

from dataclasses import dataclass

from hetc.backends.native.expressions import literal
from hetc.backends.native.ssa import BYTES, Ssa
from hetc.backends.native.views import View
from hetc.backends.native.writer import Writer
from hetc.ir.dims import DimLike


@dataclass(frozen=True)
class Along:
    """The steps of a recurrence: the first of them, and how many elements on the next one lies."""

    first: View
    apart: DimLike


@dataclass(frozen=True)
class Scan:
    """`out` = `decay` times the one before + `x`, step by step from `initial` or zeros; `last` gets
    the last of `count` steps. All are of the shape of one step. With `maximum`, times is + and + is
    the larger of two."""

    x: Along
    decay: Along | float
    initial: View | None
    out: Along
    last: View
    count: DimLike
    split: bool
    maximum: bool = False

    @property
    def reads(self) -> tuple[View, ...]:
        decay = (self.decay.first,) if isinstance(self.decay, Along) else ()
        return (self.x.first, *decay, *(() if self.initial is None else (self.initial,)))

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.out.first, self.last)

    def write(self, w: Writer) -> None:
        e = w.e
        steps = [self.out, self.x, *([self.decay] if isinstance(self.decay, Along) else [])]
        held = [] if self.initial is None else [self.initial]

        def at(along: Along, row: Ssa, step: Ssa) -> Ssa:
            apart = w.size(along.apart * BYTES[w.element(along.first)])
            return e.offset(row, e.mul(step, apart))

        def row(last: Ssa, *places: Ssa) -> None:
            out, x, *others = places

            times, plus = (e.add, e.maximum) if self.maximum else (e.mul, e.add)

            def some(column: Ssa, lanes: int) -> tuple[()]:
                def step(number: Ssa, before: Ssa) -> tuple[Ssa]:
                    now = w.lanes(self.x.first, at(self.x, x, number), column, lanes)
                    if isinstance(self.decay, Along):
                        place = at(self.decay, others[0], number)
                        before = times(before, w.lanes(self.decay.first, place, column, lanes))
                    elif self.decay != (0 if self.maximum else 1):
                        before = times(before, literal(e, self.decay, before.type))
                    now = plus(before, now)
                    w.put(now, self.out.first, at(self.out, out, number), column)
                    return (now,)

                if self.initial is not None:
                    start = w.lanes(self.initial, others[-1], column, lanes)
                else:
                    start = literal(e, 0, w.lanes(self.x.first, x, column, lanes).type)
                (total,) = e.loop(e.index(0), w.size(self.count), 1, step, (start,))
                w.put(total, self.last, last, column)
                return ()

            w.columns(self.last.columns, some)

        w.rows([self.last, *(part.first for part in steps), *held], self.split, row)
