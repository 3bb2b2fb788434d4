"""Products with quantized matrices: one step is a group of 32 or 16 numbers along K.

The sum over a group of `(scale * q + low) * x` is `scale * sum(q * x) + low * sum(x)`: the second
sum belongs to x alone, and is made once for all outputs when x is prepared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from hetc.backends.native import vector_math as fn
from hetc.backends.native.arithmetic import Sums
from hetc.backends.native.blocks import LINE, BlockFormat
from hetc.backends.native.dots import byte_dot
from hetc.backends.native.ssa import F32, I32, LANES, Emitter, Ssa, vector
from hetc.backends.native.views import View
from hetc.backends.native.writer import Writer

BYTE_LINE = vector(LINE, "i8")
WORDS = vector(LANES, I32)
TERM_BITS = 7
_TERM = 2**TERM_BITS


@dataclass(frozen=True)
class Blocks:
    """What all ways share: where things are in a block, and how its sums are scaled."""

    format: BlockFormat

    @property
    def panel_bytes(self) -> int:
        return self.format.nbytes

    @property
    def group(self) -> int:
        return self.format.group

    @property
    def prepares(self) -> bool:
        return True

    def odd(self, w: Writer, sums: Sums, xs: Sequence[Ssa], panels: Sequence[Ssa]) -> None:
        raise AssertionError("a quantized matrix has whole groups")

    def lines(self, e: Emitter, block: Ssa) -> list[Ssa]:
        """The q of a block as lines of [16 outputs][4 steps] bytes."""
        stored = [
            e.load(e.offset(block, e.index(LINE * place)), WORDS)
            for place in range(self.format.lines)
        ]
        if self.format.bits == 8:
            return stored
        mask, four = e.constant("252645135", WORDS), e.constant("4", WORDS)
        found = []
        for line in stored:
            found.append(e.arith("andi", line, mask))
            found.append(e.arith("andi", e.arith("shrui", line, four), mask))
        return found

    def add(self, w: Writer, sums: Sums, place: int, block: Ssa, product: Ssa, x_sum: Ssa) -> None:
        """Add a group to a sum: `product` is sum(q * x) for 16 outputs, `x_sum` sum(x)."""
        e, format = w.e, self.format
        total = sums.values[place]
        scale = self._numbers(w, block, format.scale_place, format.numbers)
        if format.offset == "middle":
            product = e.fma(x_sum, e.number(-format.middle, x_sum), product)
        else:
            more = self._numbers(w, block, format.offset_place, format.offset_type)
            if format.offset == "low":
                total = e.fma(more, x_sum, total)
            else:
                product = e.sub(product, e.mul(more, x_sum))
        sums.values[place] = e.fma(scale, product, total)

    def scale_and_low(self, w: Writer, block: Ssa) -> tuple[Ssa, Ssa]:
        """The two that make `scale * q + low` of the numbers of 16 outputs."""
        e, format = w.e, self.format
        scale = self._numbers(w, block, format.scale_place, format.numbers)
        if format.offset == "middle":
            return scale, e.mul(scale, e.number(-format.middle, scale))
        more = self._numbers(w, block, format.offset_place, format.offset_type)
        if format.offset == "low":
            return scale, more
        return scale, e.sub(e.constant("0.0", more.type), e.mul(scale, more))

    def _numbers(self, w: Writer, block: Ssa, place: int, element: str) -> Ssa:
        return w.widened(w.load(w.e.offset(block, w.e.index(place)), element, LANES))

    def parts(self, w: Writer, view: View, x: Ssa, first: Ssa) -> list[Ssa]:
        """The group of x that begins at number `first`, 16 numbers at a time."""
        e = w.e
        places = [e.add(first, e.index(at)) for at in range(0, self.group, LANES)]
        return [w.lanes(view, x, place, LANES) for place in places]


@dataclass(frozen=True)
class Widened(Blocks):
    """For any CPU: q becomes f32. A group of x is its numbers, and their sum."""

    @property
    def x_bytes(self) -> int:
        return 4 * self.group + 4

    def prepare(self, w: Writer, view: View, x: Ssa, out: Ssa, count: int) -> None:
        e = w.e

        def one(group: Ssa) -> tuple[()]:
            there = e.offset(out, e.mul(group, e.index(self.x_bytes)))
            parts = self.parts(w, view, x, e.mul(group, e.index(self.group)))
            for place, part in enumerate(parts):
                e.store(part, e.offset(there, e.index(4 * LANES * place)))
            sum = e.reduce("add", reduce(e.add, parts))
            e.store(sum, e.offset(there, e.index(4 * self.group)))
            return ()

        e.loop(e.index(0), e.index(count // self.group), 1, one)

    def step(
        self, w: Writer, sums: Sums, xs: Sequence[Ssa], panels: Sequence[Ssa], number: int
    ) -> None:
        e = w.e
        xs = [e.offset(x, e.index(number * self.x_bytes)) for x in xs]
        x_sums = [e.splat(e.load(e.offset(x, e.index(4 * self.group)), F32), LANES) for x in xs]
        for tile, panel in enumerate(panels):
            block = e.offset(panel, e.index(number * self.panel_bytes))
            totals = self._totals(w, block, xs)
            for row, total in enumerate(totals):
                self.add(w, sums, sums.place(row, tile, number), block, total, x_sums[row])

    def _totals(self, w: Writer, block: Ssa, xs: Sequence[Ssa]) -> tuple[Ssa, ...]:
        """sum(q * x) of a block for every row, a line of the block at a time."""
        e, bits = w.e, self.format.bits
        fours = 8 // bits
        mask = e.constant("255" if bits == 8 else "15", WORDS)

        def line(place: Ssa, *totals: Ssa) -> list[Ssa]:
            found = list(totals)
            words = e.load(e.offset(block, e.mul(place, e.index(LINE))), WORDS)
            near = [e.offset(x, e.mul(place, e.index(16 * fours))) for x in xs]
            for step in range(4 * fours):
                # In 4 bits the lower halves of four bytes come first, then the upper ones.
                shift = 8 * (step % 4) + 4 * (step // 4)
                shifted = e.arith("shrui", words, e.constant(str(shift), WORDS))
                q = e.convert("sitofp", e.arith("andi", shifted, mask), F32)
                for row, x in enumerate(near):
                    factor = e.splat(e.load(e.offset(x, e.index(4 * step)), F32), LANES)
                    found[row] = e.fma(q, factor, found[row])
            return found

        zero = e.constant("0.0", vector(LANES, F32))
        return e.loop(e.index(0), e.index(self.format.lines), 1, line, [zero] * len(xs))


@dataclass(frozen=True)
class IntegerDots(Blocks):
    """Four products of bytes and their sum by one instruction, x in whole numbers.

    In one term, x has 8 bits. In two it has 15: the upper bytes, then the rest to the nearest
    multiple of 128; that is as good as f32 here, and takes twice the products. A group of x is the
    bytes of each term, its scale, and the sum of its rounded numbers, both f32.
    """

    terms: int

    @property
    def x_bytes(self) -> int:
        return self.group * self.terms + 8

    def prepare(self, w: Writer, view: View, x: Ssa, out: Ssa, count: int) -> None:
        e = w.e
        largest = 127.0 if self.terms == 1 else 127.0 * _TERM

        def one(group: Ssa) -> tuple[()]:
            there = e.offset(out, e.mul(group, e.index(self.x_bytes)))
            parts = self.parts(w, view, x, e.mul(group, e.index(self.group)))
            sizes = [e.intrinsic("fabs", part) for part in parts]
            most = e.reduce("maximum", reduce(e.maximum, sizes))
            scale, inverse = fn.symmetric(e, most, largest)
            sum = e.constant("0", WORDS)
            for place, part in enumerate(parts):
                rounded = e.intrinsic("rint", e.mul(part, e.splat(inverse, LANES)))
                whole = e.convert("fptosi", rounded, I32)
                sum = e.add(sum, whole)
                for term, number in enumerate(self._terms(e, whole)):
                    narrow = e.convert("trunci", number, "i8")
                    e.store(narrow, e.offset(there, e.index(self.group * term + LANES * place)))
            count = e.convert("sitofp", e.reduce("add", sum), F32)
            e.store(scale, e.offset(there, e.index(self.group * self.terms)))
            e.store(e.mul(count, scale), e.offset(there, e.index(self.group * self.terms + 4)))
            return ()

        e.loop(e.index(0), e.index(count // self.group), 1, one)

    def _terms(self, e: Emitter, whole: Ssa) -> list[Ssa]:
        if self.terms == 1:
            return [whole]
        half = e.add(whole, e.constant(str(_TERM // 2), whole.type))
        upper = e.arith("shrsi", half, e.constant(str(TERM_BITS), whole.type))
        return [upper, e.sub(whole, e.mul(upper, e.constant(str(_TERM), whole.type)))]

    def step(
        self, w: Writer, sums: Sums, xs: Sequence[Ssa], panels: Sequence[Ssa], number: int
    ) -> None:
        e = w.e
        blocks = [e.offset(panel, e.index(number * self.panel_bytes)) for panel in panels]
        lines = [self.lines(e, block) for block in blocks]
        for row, start in enumerate(xs):
            x = e.offset(start, e.index(number * self.x_bytes))
            after = e.offset(x, e.index(self.group * self.terms))
            scale = e.splat(e.load(after, F32), LANES)
            x_sum = e.splat(e.load(e.offset(after, e.index(4)), F32), LANES)
            for tile, total in enumerate(self._totals(e, x, lines)):
                product = e.mul(e.convert("sitofp", total, F32), scale)
                self.add(w, sums, sums.place(row, tile, number), blocks[tile], product, x_sum)

    def _totals(self, e: Emitter, x: Ssa, lines: Sequence[Sequence[Ssa]]) -> list[Ssa]:
        """sum(q * x) of each tile's block for one row."""
        # Two sums each, where so few are under way that one would wait for the other.
        parts = 2 if self.terms * len(lines) < 4 else 1
        zero = e.constant("0", WORDS)
        totals = [[[zero] * parts for _ in range(self.terms)] for _ in lines]
        for place in range(self.group // 4):
            for term in range(self.terms):
                word = e.load(e.offset(x, e.index(self.group * term + 4 * place)), I32)
                four = as_bytes(e, e.splat(word, LANES))
                for tile, line in enumerate(lines):
                    sums = totals[tile][term]
                    sums[place % parts] = byte_dot(
                        e, sums[place % parts], as_bytes(e, line[place]), four
                    )
        found = []
        for terms in totals:
            upper, *rest = [sums[0] if parts == 1 else e.add(*sums) for sums in terms]
            for lower in rest:
                upper = e.add(e.mul(upper, e.constant(str(_TERM), WORDS)), lower)
            found.append(upper)
        return found


def as_bytes(e: Emitter, x: Ssa) -> Ssa:
    return e.op(f"llvm.bitcast {x.name} : {x.type} to {BYTE_LINE}", BYTE_LINE)
