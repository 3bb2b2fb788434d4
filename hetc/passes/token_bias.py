"""Masks that tokens have a part in: which ops make them, and each of those for some of its rows.

Such a mask is an addend `[.., S, S]` of what the query, or the key, says of the other, beside what
positions alone hide. Its cells are made where both axes meet; what is made before belongs to the
query, and is computed for the new rows, or to the key, and is state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from hetc.errors import StateError
from hetc.ir.dims import symbols_of
from hetc.ir.graph import Graph
from hetc.ir.interpret import WeightLookup
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.control import describe
from hetc.ir.ops.elementwise import And, Cast, Elementwise, Gt, Not, Where
from hetc.ir.ops.index import TakeAlong
from hetc.ir.ops.shape import Broadcast, Reshape, normalize_axis
from hetc.ir.types import BOOL
from hetc.passes.index_only import IndexOnly
from hetc.passes.length_use import counts_length, holds_length
from hetc.passes.probe import probe_mask
from hetc.passes.tokens import LENGTH, Axes, TokenAxis, refuse


def positional_part(mask: Value, hidden: float, index_only: IndexOnly) -> Value | None:
    """What positions alone leave visible of `mask`, as a bool mask; None where they hide nothing.

    An addend of at most `hidden` hides a key whatever is added to it.
    """
    op = mask.op
    if index_only(mask):
        return mask if mask.dtype is BOOL else Gt(mask, hidden, loc=op.loc if op else "").result
    match op:
        case Cast() if (op.dtype is BOOL) == (op.x.dtype is BOOL):
            # Between bools and addends a cast changes what a mask means.
            return positional_part(op.x, hidden, index_only)
        case Reshape() | Broadcast():
            inner = positional_part(op.x, hidden, index_only)
            if inner is None:
                return None
            whole = Broadcast(inner, op.x.shape, loc=op.loc).result
            return op.replace(x=whole).result
        case Where():
            return _visible_where(op, hidden, index_only)
        case Elementwise() if op.kind in ("add", "and"):
            found = [
                part
                for value in op.operands
                if (part := positional_part(value, hidden, index_only)) is not None
            ]
            return _both(found, op.loc)
    return None


def _visible_where(op: Where, hidden: float, index_only: IndexOnly) -> Value | None:
    for kept, other, flipped in ((op.x, op.y, False), (op.y, op.x, True)):
        hides = not isinstance(other, Value) and isinstance(other, (int, float)) and other <= hidden
        if hides and isinstance(kept, Value):
            found = []
            if index_only(op.condition):
                shown = Not(op.condition, loc=op.loc).result if flipped else op.condition
                found.append(shown)
            inner = positional_part(kept, hidden, index_only)
            return _both([*found, *([] if inner is None else [inner])], op.loc)
    return None


def _both(parts: list[Value], loc: str) -> Value | None:
    total: Value | None = None
    for part in parts:
        total = part if total is None else And(total, part, loc=loc).result
    return total


@dataclass
class TokenBias:
    """The cells of all masks of a graph that tokens have a part in.

    `cells` are values `[.., S, S]`, of positions alone too; `keys` what they take of each key
    `[.., 1, S]`, with the attention that reads it.
    """

    cells: set[Value] = field(default_factory=set)
    keys: dict[Value, Attention] = field(default_factory=dict)
    _readers: dict[Value, Attention] = field(default_factory=dict)

    @staticmethod
    def of(graph: Graph, index_only: IndexOnly) -> TokenBias:
        """Raises StateError (HETC-S014) where cells are used for anything but masks."""
        found = TokenBias()
        for op in graph.ops:
            if isinstance(op, Attention) and op.mask is not None and not index_only(op.mask):
                found._collect(op.mask, op, index_only)
        for op in graph.ops if found.cells else ():
            for value in op.operands:
                inside = all(result in found.cells for result in op.results)
                as_mask = isinstance(op, Attention) and value is op.mask
                own = value in found.cells and not index_only(value)
                if own and not inside and not as_mask:
                    raise refuse(op, "a mask made of the tokens is used as something else")
        return found

    def _collect(self, mask: Value, reader: Attention, index_only: IndexOnly) -> None:
        stack = [mask]
        while stack:
            value = stack.pop()
            op = value.op
            if value in self.cells or op is None or not _is_cell(value):
                continue
            if value.shape[-2:] != (LENGTH, LENGTH) or not _makes_cells(op):
                if index_only(value):
                    continue
                raise refuse(op, f"a mask is made of the tokens by {describe(op)}")
            self.cells.add(value)
            self._readers[value] = reader
            stack.extend(op.operands)

    def check(
        self, op: Op, axes: Axes, weights: WeightLookup, limit: int, index_only: IndexOnly
    ) -> None:
        """Show that the cells of `op` follow from their query and their key alone, and note what
        they take of the keys. Raises StateError: HETC-S014, HETC-S015."""
        for value in op.operands:
            if value in self.cells:
                continue
            axis = axes[value]
            of_query = axis == TokenAxis(value.rank - 2) and not holds_length(value.shape[-1:])
            if index_only(value):
                if holds_length(value.shape) and not of_query:
                    _check_positions(value, op, weights, limit)
                continue
            of_key = axis == TokenAxis(value.rank - 1) and value.shape[-2:-1] in ((1,), ())
            if of_key and not isinstance(op, TakeAlong):
                self.keys[value] = self._readers[op.results[0]]
            elif not of_query:
                raise refuse(op, "a mask takes of the tokens neither what a query nor a key has")


def _is_cell(value: Value) -> bool:
    return value.rank >= 2 and all("S" in symbols_of(dim) for dim in value.shape[-2:])


def _makes_cells(op: Op) -> bool:
    if isinstance(op, Elementwise):
        return not counts_length(op)
    if isinstance(op, TakeAlong):
        return normalize_axis(op.axis, op.x.rank) == op.x.rank - 1
    if isinstance(op, Reshape):
        return op.x.shape[-2:] == op.shape[-2:]
    return isinstance(op, Broadcast)


def _check_positions(value: Value, reader: Op, weights: WeightLookup, limit: int) -> None:
    *shorter, longest = probe_mask(value, weights, limit)
    for probe in shorter:
        size = len(probe.positions)
        if not np.array_equal(probe.array, longest.array[..., :size, :size]):
            raise StateError(
                "HETC-S015",
                "decode cannot be derived: a mask or bias changes with the length of the sequence",
                at=reader.loc,
                found=f"other values at length {longest.length} than at {probe.length}",
                do="export the model for one length regime, or bound the context with --context",
            )


def rows_of(value: Value) -> int | None:
    """The axis of an operand of a cell that counts queries, None where it is the same for all."""
    axis = value.rank - 2
    return axis if axis >= 0 and "S" in symbols_of(value.shape[axis]) else None


def operands_of(
    op: Op, bias: TokenBias, axes: Axes, index_only: IndexOnly
) -> Iterator[tuple[Value, str]]:
    """The operands of a cell op: `cell`, `query`, `key` or `position`, which is evaluated whole."""
    for value in op.operands:
        if value in bias.cells:
            yield value, "cell"
        elif axes[value] == TokenAxis(value.rank - 2):
            yield value, "query"
        else:
            yield value, "position" if index_only(value) else "key"
