"""Masks of attention that are tables: a row for each position, a column for each key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hetc.backends.native.ssa import F32, LANES, Ssa
from hetc.backends.native.views import View
from hetc.backends.native.writer import Writer

# Less than every score: a key with such an addend is not seen.
_HIDDEN = -1e30


@dataclass(frozen=True)
class MaskRow:
    """The row of one query: bools (true is visible), or addends to the scores."""

    view: View
    row: Ssa

    @staticmethod
    def of(w: Writer, view: View | None, index: Sequence[Ssa]) -> MaskRow | None:
        """The row of the query [b, h, t] in `view` [B, H, T, L]."""
        return None if view is None else MaskRow(view, w.address(view, index))

    def apply(self, w: Writer, key: Ssa, score: Ssa, seen: Ssa) -> tuple[Ssa, Ssa]:
        """Scores of the 16 keys from `key` on, and which of them are seen, with the mask."""
        e = w.e
        mask = w.lanes(self.view, self.row, key, LANES)
        if mask.element == F32:
            score = e.add(score, mask)
            mask = e.compare("ogt", score, e.number(_HIDDEN, score))
        return score, e.arith("andi", seen, mask)
