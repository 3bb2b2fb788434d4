"""Products with bf16 in 12 bits: the numbers are as they were, and so is every sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hetc.backends.native.arithmetic import Sums, multiply_add
from hetc.backends.native.byte_tables import choose, spread
from hetc.backends.native.coded import BLOCK, LINE, OTHER, STEPS, TABLE, Coded
from hetc.backends.native.integer_arithmetic import WORDS, as_bytes
from hetc.backends.native.ssa import Ssa
from hetc.backends.native.tiles import TileForm
from hetc.backends.native.views import View
from hetc.backends.native.writer import Writer


@dataclass(frozen=True)
class Tables:
    """The tables of a chunk: upper bytes, and both bytes of other numbers."""

    upper: Ssa
    other_upper: Ssa
    other_lower: Ssa

    @staticmethod
    def load(w: Writer, chunk: Ssa) -> Tables:
        """Those of the chunk that begins at `chunk`."""
        places = (w.e.offset(chunk, w.e.index(TABLE * table)) for table in range(3))
        return Tables(*(spread(w.e, place) for place in places))

    def pairs(self, w: Writer, block: Ssa) -> list[Ssa]:
        """A block as four lines of 16 pairs of bf16, as i32, as a tile of bf16 has them."""
        e = w.e
        codes, *lower = (
            e.load(e.offset(block, e.index(LINE * line)), WORDS) for line in range(BLOCK // LINE)
        )
        half = e.constant("252645135", WORDS)
        shifted = codes, e.arith("shrui", codes, e.constant("4", WORDS))
        numbers = [as_bytes(e, e.arith("andi", line, half)) for line in shifted]
        is_other = [e.compare("eq", code, e.constant(str(OTHER), code.type)) for code in numbers]
        lower = [as_bytes(e, line) for line in lower]
        upper = [choose(e, self.upper, code) for code in numbers]

        def with_others() -> list[Ssa]:
            tables = (self.other_upper, upper), (self.other_lower, lower)
            return [
                e.select(other, choose(e, table, low), line)
                for table, lines in tables
                for other, low, line in zip(is_other, lower, lines, strict=True)
            ]

        # Few blocks have some.
        bytes = e.if_any(is_other, with_others, [*upper, *lower])
        found = []
        for high, low in zip(bytes[:2], bytes[2:], strict=True):
            for begin in (0, TABLE // 2):
                order = [
                    from_ + first + begin + byte
                    for first in range(0, LINE, TABLE)
                    for byte in range(TABLE // 2)
                    for from_ in (0, LINE)
                ]
                mixed = e.shuffle(low, high, order)
                found.append(e.op(f"llvm.bitcast {mixed.name} : {mixed.type} to {WORDS}", WORDS))
        return found


@dataclass(frozen=True)
class CodedMultiplyAdd:
    """As MultiplyAdd does with the same numbers of bf16; `tables` of each tile."""

    tables: tuple[Tables, ...]
    prepares = False
    group = STEPS
    x_bytes = 4 * STEPS
    panel_bytes = BLOCK

    def prepare(self, w: Writer, view: View, x: Ssa, out: Ssa, count: int) -> None:
        raise AssertionError("f32 is read as it is")

    def step(
        self, w: Writer, sums: Sums, xs: Sequence[Ssa], panels: Sequence[Ssa], number: int
    ) -> None:
        e = w.e
        blocks = [e.offset(panel, e.index(number * BLOCK)) for panel in panels]
        pairs = [tables.pairs(w, block) for tables, block in zip(self.tables, blocks, strict=True)]
        for place in range(STEPS // 2):
            columns = [w.widened_pair(tile[place]) for tile in pairs]
            multiply_add(w, sums, xs, columns, number * STEPS + 2 * place)

    def odd(self, w: Writer, sums: Sums, xs: Sequence[Ssa], panels: Sequence[Ssa]) -> None:
        raise AssertionError("a coded matrix has whole blocks")


@dataclass(frozen=True)
class PlainPanel:
    """Tiles of bf16 as they would be stored, made once for many rows."""

    coded: Coded

    @property
    def wide(self) -> TileForm:
        """How the tiles of the panel lie."""
        return TileForm(self.coded.inner, "bf16")

    def make(self, w: Writer, weights: Ssa, tiles: int, panel: Ssa) -> None:
        """Bring `tiles` tiles from `weights` to `panel`."""
        e, coded = w.e, self.coded
        chunks, blocks = coded.inner // coded.chunk * tiles, coded.chunk // STEPS
        pairs_bytes = STEPS // 2 * LINE

        def one(number: Ssa) -> tuple[()]:
            chunk = e.offset(weights, e.mul(number, e.index(coded.chunk_bytes)))
            out = e.offset(panel, e.mul(number, e.index(blocks * pairs_bytes)))
            tables = Tables.load(w, chunk)

            def block(number: Ssa) -> tuple[()]:
                stored = e.offset(chunk, e.add(e.index(LINE), e.mul(number, e.index(BLOCK))))
                there = e.offset(out, e.mul(number, e.index(pairs_bytes)))
                for place, line in enumerate(tables.pairs(w, stored)):
                    e.store(line, e.offset(there, e.index(LINE * place)))
                return ()

            e.loop(e.index(0), e.index(blocks), 1, block)
            return ()

        # Chunks of one tile lie behind each other in both, and so do tiles.
        e.loop(e.index(0), e.index(chunks), 1, one)
