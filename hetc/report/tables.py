"""Aligned tables for a terminal: columns that are too many for its width are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_GAP = "  "
_LEAST_FIRST = 36  # what a shortened first column keeps at least


@dataclass(frozen=True)
class Column:
    """A column's title; `right` aligns numbers; of two columns the one of lower `rank` stays."""

    title: str
    right: bool = False
    rank: int = 0


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None = None
) -> str:
    """The rows under their titles.

    In `width` characters (None: as many as it takes) columns of high rank are left out first, and
    then the first column is shortened in the middle.
    """
    widths = [
        max([len(column.title), *(len(row[place]) for row in rows)])
        for place, column in enumerate(columns)
    ]
    kept = _kept(columns, widths, width)
    first = kept[0]
    if width is not None:
        others = sum(widths[place] + len(_GAP) for place in kept[1:])
        widths[first] = min(widths[first], max(_LEAST_FIRST, width - others))
    titles = [column.title for column in columns]
    lines = []
    for row in (titles, *rows):
        cells = [shortened(row[place], widths[place]) for place in kept]
        padded = (
            cell.rjust(widths[place]) if columns[place].right else cell.ljust(widths[place])
            for cell, place in zip(cells, kept, strict=True)
        )
        lines.append(_GAP.join(padded).rstrip())
    return "\n".join(lines)


def _kept(columns: Sequence[Column], widths: Sequence[int], width: int | None) -> list[int]:
    kept = list(range(len(columns)))
    if width is None:
        return kept

    def needed() -> int:
        first = min(widths[kept[0]], _LEAST_FIRST)
        return first + sum(widths[place] + len(_GAP) for place in kept[1:])

    while needed() > width and any(columns[place].rank for place in kept):
        kept.remove(max(kept, key=lambda place: columns[place].rank))
    return kept


def shortened(text: str, width: int) -> str:
    """`text` in at most `width` characters, an ellipsis for what its middle loses."""
    if len(text) <= width:
        return text
    tail = (width - 1) * 2 // 3
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"
