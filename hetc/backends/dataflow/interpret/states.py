"""States in memory: rows that grow, rings of the last ones, and states that are replaced whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from hetc.backends.dataflow.interpret.memory import Memory, Span, place, require_bytes
from hetc.backends.dataflow.interpret.row_group import ALL, RowGroup
from hetc.backends.dataflow.interpret.wiring import Wired
from hetc.backends.dataflow.schema import Allocation
from hetc.errors import PlanError
from hetc.ir.dims import DimLike, evaluate, symbols_of
from hetc.ir.op import Value


@dataclass(frozen=True, eq=False)
class StoredState:
    """A state in memory: `lead` sequences of `capacity` rows of `row_bytes`; a whole state is one
    row. `ring`: position p is in row p % ring, and that many are kept. `is_written`: the plan
    appends to it."""

    value: Value
    piece: Allocation
    lead: int
    capacity: int
    row_bytes: int
    grows: bool
    ring: int | None
    is_written: bool

    def kept(self, past: int) -> int:
        """Rows of each sequence after `past` tokens."""
        return min(past, self.ring) if self.ring is not None else past

    def nbytes(self, past: int) -> int:
        """Bytes that are read after `past` tokens."""
        return self.lead * (self.kept(past) if self.grows else 1) * self.row_bytes

    def spans(self, iteration: int, first: int, stop: int, group: RowGroup = ALL) -> Iterator[Span]:
        """The places of positions `first` to `stop` of every sequence of a group, in their order.

        Raises PlanError (HETC-L309) where one has no row.
        """
        runs = list(self._runs(first, stop)) if self.grows else [(0, 1)]
        base = place(self.piece, iteration)
        for sequence in group.of(self.lead):
            for row, count in runs:
                if row + count > self.capacity:
                    raise PlanError(
                        "HETC-L309",
                        "a state has no room for a row",
                        at=f"{self.piece.block} {self.piece.tensor}",
                        expected=f"at most {self.capacity} rows",
                        found=f"row {row + count - 1}",
                        do="plan for a longer context",
                    )
                address = base + (sequence * self.capacity + row) * self.row_bytes
                yield Span(self.piece.tier, address, count * self.row_bytes)

    def _runs(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """First row and number of rows of runs of positions."""
        while first < stop:
            row = first if self.ring is None else first % self.ring
            count = stop - first if self.ring is None else min(stop - first, self.ring - row)
            yield row, count
            first += count


def stored_state(wired: Wired, tensor: str, memory: Memory, batch: int) -> StoredState:
    """How a state of a block lies in memory; raises PlanError (HETC-L304, HETC-L309)."""
    value = wired.value(tensor)
    appends = [item for item in wired.block.appends if item.tensor == tensor]
    sizes = [_fixed(dim, batch) for dim in value.shape]
    axis = sizes.index(None) if None in sizes else 0
    lead = prod(size or 1 for size in sizes[:axis])
    row_bytes = prod(size or 1 for size in sizes[axis:]) * value.dtype.bits // 8
    (piece,) = memory.pieces(wired.block.id, tensor)
    capacity = piece.rows[1] // batch
    require_bytes(piece, lead * capacity * row_bytes)
    return StoredState(
        value=value,
        piece=piece,
        lead=lead,
        capacity=capacity,
        row_bytes=row_bytes,
        grows=None in sizes,
        ring=appends[0].ring if appends else None,
        is_written=bool(appends),
    )


def _fixed(dim: DimLike, batch: int) -> int | None:
    """A size that the number of tokens does not change, None for one that it does."""
    return None if symbols_of(dim) - {"B"} else evaluate(dim, {"B": batch})
