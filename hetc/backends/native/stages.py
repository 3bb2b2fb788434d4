"""What a block does, step by step: each stage knows what it touches and writes its own code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from hetc.backends.native import expressions
from hetc.backends.native.ssa import F32, LANES, Ssa, vector
from hetc.backends.native.views import View
from hetc.backends.native.writer import Writer
from hetc.ir.op import Op, Value


class Stage(Protocol):
    """Reads and writes views, in the half that `Writer` writes."""

    @property
    def reads(self) -> tuple[View, ...]: ...

    @property
    def writes(self) -> tuple[View, ...]: ...

    def write(self, w: Writer) -> None:
        """Emit the code of one thread."""
        ...


@dataclass(frozen=True)
class Elementwise:
    """`out` = `op`, with the ops inside of it that nothing else needs."""

    op: Op
    operands: Mapping[Value, View]
    inside: frozenset[Op]
    out: View
    split: bool

    @property
    def reads(self) -> tuple[View, ...]:
        return tuple(self.operands.values())

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.out,)

    def write(self, w: Writer) -> None:
        values = list(self.operands)
        views = [self.operands[value].broadcast(self.out.shape) for value in values]

        def row(out: Ssa, *rows: Ssa) -> None:
            def some(column: Ssa, lanes: int) -> tuple[()]:
                known: dict[Value, Ssa] = {}

                def load(value: Value) -> Ssa:
                    if value not in known:
                        known[value] = self._value(w, value, load, rows, column, lanes, views)
                    return known[value]

                w.put(expressions.evaluate(w.e, self.op, load), self.out, out, column)
                return ()

            w.columns(self.out.columns, some)

        w.rows([self.out, *views], self.split, row)

    def _value(
        self,
        w: Writer,
        value: Value,
        load: expressions.Load,
        rows: tuple[Ssa, ...],
        column: Ssa,
        lanes: int,
        views: list[View],
    ) -> Ssa:
        if value.op in self.inside:
            assert value.op is not None
            return expressions.evaluate(w.e, value.op, load)
        place = list(self.operands).index(value)
        return w.lanes(views[place], rows[place], column, lanes)


@dataclass(frozen=True)
class OfRows:
    """What a stage has that makes rows of `out` from `x`; with `split`, threads share them out."""

    x: View
    out: View
    split: bool

    @property
    def reads(self) -> tuple[View, ...]:
        return (self.x,)

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.out,)


class Copy(OfRows):
    """`out` = `x`, of one shape."""

    def write(self, w: Writer) -> None:
        def row(out: Ssa, x: Ssa) -> None:
            def some(column: Ssa, lanes: int) -> tuple[()]:
                w.put(w.lanes(self.x, x, column, lanes), self.out, out, column)
                return ()

            w.columns(self.out.columns, some)

        w.rows([self.out, self.x], self.split, row)


@dataclass(frozen=True)
class Norm:
    """RMS norm, or layer norm with `centred`; `weight + offset` scales, `bias` shifts."""

    x: View
    weight: View | None
    bias: View | None
    out: View
    eps: float
    offset: float
    centred: bool
    split: bool

    @property
    def reads(self) -> tuple[View, ...]:
        return tuple(view for view in (self.x, self.weight, self.bias) if view is not None)

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.out,)

    def write(self, w: Writer) -> None:
        scales = [view.broadcast(self.out.shape) for view in self.reads[1:]]
        w.rows([self.out, self.x, *scales], self.split, lambda *rows: self._row(w, *rows))

    def _row(self, w: Writer, out: Ssa, x: Ssa, *scales: Ssa) -> None:
        e, count = w.e, self.out.columns
        mean = self._mean(w, x, None) if self.centred else None
        variance = self._mean(w, x, mean, squared=True)
        root = e.intrinsic("sqrt", e.add(variance, e.number(self.eps, variance)))
        factor = e.div(e.number(1.0, root), root)

        def some(column: Ssa, lanes: int) -> tuple[()]:
            given = list(zip(self.reads[1:], scales, strict=True))
            value = self._shifted(w, x, mean, column, lanes)
            value = e.mul(value, e.splat(factor, lanes))
            if self.weight is not None:
                weight = w.lanes(*given.pop(0), column, lanes)
                if self.offset:
                    weight = e.add(weight, e.number(self.offset, weight))
                value = e.mul(value, weight)
            if self.bias is not None:
                value = e.add(value, w.lanes(*given.pop(0), column, lanes))
            w.put(value, self.out, out, column)
            return ()

        w.columns(count, some)

    def _shifted(self, w: Writer, x: Ssa, mean: Ssa | None, column: Ssa, lanes: int) -> Ssa:
        value = w.lanes(self.x, x, column, lanes)
        return value if mean is None else w.e.sub(value, w.e.splat(mean, lanes))

    def _mean(self, w: Writer, x: Ssa, mean: Ssa | None, *, squared: bool = False) -> Ssa:
        """The mean of a row, or of the squares of its distances from `mean`."""
        e, count = w.e, self.out.columns
        zero = e.constant("0.0", vector(LANES, F32))

        def some(column: Ssa, lanes: int, *sums: Ssa) -> tuple[Ssa, ...]:
            value = self._shifted(w, x, mean, column, lanes)
            value = e.mul(value, value) if squared else value
            if lanes < zero.lanes:
                # The last few: added as one number, in the first lane.
                rest = e.insert(e.reduce("add", value), zero, 0)
                return (e.add(sums[0], rest),)
            return (e.add(sums[0], value),)

        (total,) = w.columns(count, some, (zero,))
        sum = e.reduce("add", total)
        return e.mul(sum, e.number(1 / count, sum))


@dataclass(frozen=True)
class Rotary:
    """`out` = `x` with its first columns rotated by `cos` and `sin`; see `hetc.ir.ops`."""

    x: View
    cos: View
    sin: View
    out: View
    interleaved: bool
    split: bool

    @property
    def reads(self) -> tuple[View, ...]:
        return (self.x, self.cos, self.sin)

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.out,)

    def write(self, w: Writer) -> None:
        width = self.cos.columns
        rotated = (*self.out.shape[:-1], width)
        tables = [view.broadcast(rotated) for view in (self.cos, self.sin)]
        # Rows of all four begin where their first column is, whatever their length.
        outer = [
            self.out.sliced(self.out.rank - 1, 0, width),
            self.x.sliced(self.x.rank - 1, 0, width),
        ]
        w.rows([*outer, *tables], self.split, lambda *rows: self._row(w, *rows))

    def _row(self, w: Writer, out: Ssa, x: Ssa, cos: Ssa, sin: Ssa) -> None:
        e, width = w.e, self.cos.columns
        half = width // 2
        for first, second, count, step in self._pairs(half):
            apart = e.index(second - first)

            def some(column: Ssa, lanes: int, step: int = step, apart: Ssa = apart) -> tuple[()]:
                left, right = column, e.add(column, apart)
                a, b = (w.lanes(self.x, x, at, lanes) for at in (left, right))
                for at, value, sign in ((left, (a, b), "subf"), (right, (b, a), "addf")):
                    turn = e.mul(value[1], w.lanes(self.sin, sin, at, lanes))
                    kept = e.mul(value[0], w.lanes(self.cos, cos, at, lanes))
                    w.put(e.arith(sign, kept, turn), self.out, out, at)
                return ()

            if step == 1:
                w.columns(count, some)
            else:
                e.loop(e.index(0), e.index(width), step, lambda at: some(at, 1))
        rest = self.x.columns - width
        if rest:
            behind = e.index(width)

            def keep(column: Ssa, lanes: int) -> tuple[()]:
                at = e.add(column, behind)
                w.put(w.lanes(self.x, x, at, lanes), self.out, out, at)
                return ()

            w.columns(rest, keep)

    def _pairs(self, half: int) -> list[tuple[int, int, int, int]]:
        """Where the two of a pair are, how many pairs, and how far the next pair is."""
        return [(0, 1, half, 2)] if self.interleaved else [(0, half, half, 1)]
