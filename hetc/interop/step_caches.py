"""How PyTorch's caches of a captured step keep their rows, and what a call finds in them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hetc.ir.dims import DimLike, symbol
from hetc.ir.types import Array

if TYPE_CHECKING:
    import torch
    from torch.fx import Node

_ROWS = (2, -2)
# The end of a slice that ends nowhere.
_END = 9223372036854775807


@dataclass(frozen=True)
class StepCache:
    """A cache f[b,G,L,D] that the placeholder `node` brings.

    `grown` ones are replaced by longer ones, of which at most the last `keeps` rows are left;
    `written` ones take the new row at the position, `shifted` ones at the end after all rows moved
    up. `rows` is L before the step: a number, the position P, or the symbol L, for whatever length
    a `written` one has.
    """

    node: Node
    form: Literal["grown", "written", "shifted"]
    keeps: int | None
    rows: DimLike

    def fits(self, cache: torch.Tensor, past: int) -> bool:
        """Whether the cache of a call holds what it must after `past` tokens."""
        rows = cache.shape[2]
        if self.form == "written":
            return bool(past < rows)
        if self.form == "shifted":
            return bool(past >= rows)
        is_expected = rows == (self.rows if isinstance(self.rows, int) else past)
        return bool(is_expected and rows == min(past, self.keeps or past))

    def new_row(self, cache: torch.Tensor, past: int) -> torch.Tensor:
        """The row of the last step in what PyTorch made of the cache."""
        return cache.narrow(2, past if self.form == "written" else cache.shape[2] - 1, 1)

    def left(self, grown: torch.Tensor) -> torch.Tensor:
        """What a cache that grows keeps of its rows and the new one."""
        return grown if self.keeps is None else grown[:, :, -self.keeps :]

    def place(self, cache: Array, past: int) -> int:
        """Where the new row belongs in a cache that does not grow, after room was made for it."""
        if self.form == "written":
            return past
        cache[:, :, :-1] = cache[:, :, 1:]
        return -1


def caches_of(placeholders: Sequence[Node], returned: Collection[object]) -> list[StepCache]:
    """The caches among the inputs of a graph, in order."""
    found = []
    for node in placeholders:
        ways = {way for user in node.users if (way := _way(user, node, returned)) is not None}
        if len(ways) == 1:
            found.append((node, *ways.pop()))
    return [
        StepCache(node, form, keeps, _rows(node, form, keeps, found)) for node, form, keeps in found
    ]


def size_names(caches: Sequence[StepCache]) -> dict[Any, DimLike]:
    """What the symbols of the caches' rows are."""
    sizes = ((cache.node.meta["val"].shape[2], cache.rows) for cache in caches)
    return {size.node.expr: rows for size, rows in sizes if not isinstance(size, int)}


Way = tuple[Literal["grown", "written", "shifted"], int | None]


def _way(user: Node, cache: Node, returned: Collection[object]) -> Way | None:
    fake: Any = cache.meta["val"]
    if getattr(fake, "ndim", 0) != 4:
        return None
    target, args = str(user.target), user.args
    if target == "aten.index_copy.default" and args[0] is cache and args[1] in _ROWS:
        return "written", None
    if target == "aten.roll.default" and args[1] == [-1] and list(args[2]) in ([2], [-2]):  # type: ignore[arg-type]
        rows = fake.shape[2]
        return ("shifted", rows) if isinstance(rows, int) else None
    parts: Any = args[0] if target == "aten.cat.default" else ()
    if len(parts) != 2 or parts[0] is not cache:
        return None
    return "grown", next(_kept(user, returned), None)


def _kept(grown: Node, returned: Collection[object]) -> Iterator[int]:
    """The rows that are left of a longer cache."""
    for user in grown.users:
        if str(user.target) == "aten.slice.Tensor" and user in returned:
            dim, start, end = user.args[1:4]
            if dim in _ROWS and isinstance(start, int) and start < 0 and end == _END:
                yield -start


def _rows(node: Node, form: str, keeps: int | None, others: Sequence[tuple[Any, ...]]) -> DimLike:
    """The rows of a cache: PyTorch has symbols of its own for what is as long as another's, or has
    all the rows that it can."""
    rows: Any = node.meta["val"].shape[2]
    if isinstance(rows, int):
        return rows
    if form == "written":
        return symbol("L")
    for other, _, kept in others:
        size: Any = other.meta["val"].shape[2]
        if kept == keeps and isinstance(size, int):
            return size
    is_full = keeps is not None and rows.node.has_hint() and rows.node.hint == keeps
    return keeps if is_full and keeps is not None else symbol("P")
