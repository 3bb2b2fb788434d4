"""Recurrences whose state is a matrix for each head: linear attention, gated, with a delta rule."""

from __future__ import annotations

from dataclasses import dataclass

from hetc.backends.native.expressions import literal
from hetc.backends.native.ssa import BYTES, Ssa
from hetc.backends.native.views import View
from hetc.backends.native.writer import Writer
from hetc.ir.dims import DimLike


@dataclass(frozen=True)
class Heads:
    """An operand: `first` [.., 1] shows where each head begins; `step` and `row` are how many
    elements on the next token and the next row of the state lie, and `columns` where its columns
    are."""

    first: View
    step: DimLike = 0
    row: DimLike = 0
    column: DimLike = 0


@dataclass(frozen=True)
class MatrixScan:
    """`out` and `last` of `linear_attention` over `count` tokens, for states of `rows` x `columns`.

    Columns of a state never meet: a thread takes LANES of them through all tokens.
    """

    q: Heads
    k: Heads
    v: Heads
    decay: Heads
    beta: Heads | None
    initial: Heads | None
    out: Heads
    last: Heads
    count: DimLike
    rows: int
    columns: int

    @property
    def reads(self) -> tuple[View, ...]:
        taken = (self.q, self.k, self.v, self.decay, self.beta, self.initial)
        return tuple(part.first for part in taken if part is not None)

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.out.first, self.last.first)

    def write(self, w: Writer) -> None:
        parts = [self.out, self.last, self.q, self.k, self.v, self.decay]
        parts += [part for part in (self.beta, self.initial) if part is not None]

        def head(*places: Ssa) -> None:
            at = {id(part): place for part, place in zip(parts, places, strict=True)}
            w.columns(self.columns, lambda column, lanes: self._columns(w, at, column, lanes))

        w.rows([part.first for part in parts], True, head)

    def _columns(self, w: Writer, at: dict[int, Ssa], column: Ssa, lanes: int) -> tuple[()]:
        e = w.e
        first, end = e.index(0), e.index(self.rows)

        def place(part: Heads, token: Ssa | None, row: Ssa | None) -> Ssa:
            found, width = at[id(part)], BYTES[w.element(part.first)]
            for number, apart in ((token, part.step), (row, part.row)):
                if number is not None and apart != 0:
                    found = e.offset(found, e.mul(number, w.size(apart * width)))
            return found

        def some(part: Heads, token: Ssa | None = None, row: Ssa | None = None) -> Ssa:
            """The columns of a row."""
            view = View(part.first.buffer, (self.columns,), (part.column,))
            return w.lanes(view, place(part, token, row), column, lanes)

        def one(part: Heads, token: Ssa, row: Ssa | None = None) -> Ssa:
            """A number for all columns."""
            found = w.load(place(part, token, row), w.element(part.first))
            return w.widened(e.splat(found, lanes))

        def put(value: Ssa, part: Heads, token: Ssa | None = None, row: Ssa | None = None) -> None:
            w.put(value, part.first, place(part, token, row), column)

        zero = literal(e, 0, some(self.v, first).type)

        def begin(row: Ssa) -> tuple[()]:
            put(zero if self.initial is None else some(self.initial, row=row), self.last, row=row)
            return ()

        def step(token: Ssa) -> tuple[()]:
            def decayed(row: Ssa) -> Ssa:
                return e.mul(some(self.last, row=row), one(self.decay, token, row))

            def read(row: Ssa, total: Ssa) -> tuple[Ssa]:
                return (e.add(total, e.mul(one(self.k, token, row), decayed(row))),)

            update = some(self.v, token)
            if self.beta is not None:
                (known,) = e.loop(first, end, 1, read, (zero,))
                update = e.mul(one(self.beta, token), e.sub(update, known))

            def write(row: Ssa, total: Ssa) -> tuple[Ssa]:
                state = e.add(decayed(row), e.mul(one(self.k, token, row), update))
                put(state, self.last, row=row)
                return (e.add(total, e.mul(one(self.q, token, row), state)),)

            (found,) = e.loop(first, end, 1, write, (zero,))
            put(found, self.out, token)
            return ()

        e.loop(first, end, 1, begin)
        e.loop(first, w.size(self.count), 1, step)
        return ()
