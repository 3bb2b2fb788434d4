"""Elements of rows that are read or written by index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hetc.backends.native.ssa import BYTES, I64, Ssa
from hetc.backends.native.views import View
from hetc.backends.native.writer import Writer
from hetc.ir.dims import DimLike


def _rows(w: Writer, views: tuple[View, ...], split: bool, body: Callable[..., None]) -> None:
    """`body` with the rows of views that are of one shape but for their last axis."""
    shape = (*views[0].shape[:-1], 1)
    w.rows([replace(view, shape=shape) for view in views], split, body)


def _place(w: Writer, view: View, row: Ssa, number: Ssa) -> Ssa:
    """Where element `number` of the row of `view` that begins at `row` lies."""
    apart = view.strides[-1] * BYTES[w.element(view)]
    return w.e.offset(row, w.e.mul(number, w.size(apart)))


@dataclass(frozen=True)
class TakeAlong:
    """`out` = for each of `ids`, of one shape, an element of `x`: so many times `stride` elements
    behind that at its own place."""

    x: View
    stride: DimLike
    ids: View
    out: View
    split: bool

    @property
    def reads(self) -> tuple[View, ...]:
        return (self.x, self.ids)

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.out,)

    def write(self, w: Writer) -> None:
        e, apart = w.e, w.size(self.stride * BYTES[w.element(self.x)])

        def one(out: Ssa, ids: Ssa, x: Ssa) -> None:
            place, first = e.offset(x, e.mul(e.load(ids, I64), apart)), e.index(0)
            w.put(w.lanes(self.x, place, first, 1), self.out, out, first)

        views = (self.out, self.ids, self.x)
        single = [replace(v, shape=(*v.shape, 1), strides=(*v.strides, 1)) for v in views]
        w.rows(single, self.split, one)


@dataclass(frozen=True)
class PutAlong:
    """`out` = `x`, but for the elements of its rows that `ids` names: those are of `updates`."""

    x: View
    ids: View
    updates: View
    out: View
    split: bool

    @property
    def reads(self) -> tuple[View, ...]:
        return (self.x, self.ids, self.updates)

    @property
    def writes(self) -> tuple[View, ...]:
        return (self.out,)

    def write(self, w: Writer) -> None:
        e = w.e

        def row(out: Ssa, x: Ssa, ids: Ssa, updates: Ssa) -> None:
            def copy(column: Ssa, lanes: int) -> tuple[()]:
                w.put(w.lanes(self.x, x, column, lanes), self.out, out, column)
                return ()

            def one(number: Ssa) -> tuple[()]:
                chosen = e.load(_place(w, self.ids, ids, number), I64)
                w.put(w.lanes(self.updates, updates, number, 1), self.out, out, chosen)
                return ()

            w.columns(self.out.columns, copy)
            e.loop(e.index(0), e.index(self.ids.columns), 1, one)

        _rows(w, (self.out, self.x, self.ids, self.updates), self.split, row)
