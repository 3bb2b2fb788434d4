"""Reductions of one axis: rows that lie at equal distances become one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hetc.backends.native.expressions import literal
from hetc.backends.native.ssa import BYTES, F32, Emitter, Ssa, vector
from hetc.backends.native.stages import OfRows
from hetc.backends.native.writer import Writer
from hetc.ir.dims import DimLike
from hetc.ir.op import Op
from hetc.ir.ops.reduce import Mean, ReduceMax, ReduceMin, Sum

COMBINE: Mapping[type[Op], Callable[[Emitter, Ssa, Ssa], Ssa]] = {
    Mean: Emitter.add,
    ReduceMax: Emitter.maximum,
    ReduceMin: Emitter.minimum,
    Sum: Emitter.add,
}


@dataclass(frozen=True)
class Reduction(OfRows):
    """`out` = `count` rows of `x`, which lie `stride` elements apart, as `kind` puts them
    together."""

    kind: type[Op]
    count: int
    stride: DimLike

    def write(self, w: Writer) -> None:
        e, apart = w.e, w.size(self.stride * BYTES[w.element(self.x)])
        combine = COMBINE[self.kind]

        def row(out: Ssa, x: Ssa) -> None:
            def some(column: Ssa, lanes: int) -> tuple[()]:
                def step(number: Ssa, total: Ssa) -> tuple[Ssa]:
                    place = e.offset(x, e.mul(number, apart))
                    return (combine(e, total, w.lanes(self.x, place, column, lanes)),)

                start = (w.lanes(self.x, x, column, lanes),)
                (total,) = e.loop(e.index(1), e.index(self.count), 1, step, start)
                if self.kind is Mean:
                    total = e.mul(total, literal(e, 1 / self.count, vector(lanes, F32)))
                w.put(total, self.out, out, column)
                return ()

            w.columns(self.out.columns, some)

        w.rows([self.out, self.x], self.split, row)
