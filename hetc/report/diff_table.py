"""The differences of two plans or bundles as a table."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Protocol

from hetc.report.tables import Column, shortened, table
from hetc.report.units import plural, significant

_WIDEST = 40  # of a value
_MANY_TIMES = 10
_DIGEST = re.compile("[0-9a-f]{64}")


class Differs(Protocol):
    """A fact that is not the same in A and B."""

    @property
    def group(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def field(self) -> str: ...
    @property
    def a(self) -> Any: ...
    @property
    def b(self) -> Any: ...


def diff_lines(found: Sequence[Differs], width: int | None = None) -> list[str]:
    """A count, and a row for each difference with the change of numbers in percent, or as a factor
    from ten on."""
    if not found:
        return ["equal"]
    columns = [Column("what"), Column("field"), Column("A", right=True), Column("B", right=True)]
    columns.append(Column("change", right=True, rank=1))
    rows = [
        [f"{item.group} {item.name}".strip(), item.field, *_pair(item.a, item.b)] for item in found
    ]
    return [plural(len(found), "difference"), *table(columns, rows, width).splitlines()]


def _pair(a: Any, b: Any) -> tuple[str, str, str]:
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return (*_lists(a, b), "")
    return _text(a), _text(b), _change(a, b)


def _lists(a: Sequence[Any], b: Sequence[Any]) -> tuple[str, str]:
    """Two lists, of long ones what each has alone, or that they are in another order."""
    texts = [json.dumps(value, ensure_ascii=False) for value in (a, b)]
    if max(map(len, texts)) <= _WIDEST:
        return texts[0], texts[1]
    own = [item for item in a if item not in b], [item for item in b if item not in a]
    if not any(own):
        return plural(len(a), "item"), "in another order"
    return _text(own[0]), _text(own[1])


def _change(a: Any, b: Any) -> str:
    numbers = all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in (a, b)
    )
    if not numbers or not a:
        return ""
    return f"{b / a - 1:+.1%}" if abs(b / a) < _MANY_TIMES else f"x {significant(b / a)}"


def _text(value: Any) -> str:
    """A value in a table: numbers with their thousands apart, other things as JSON, shortened."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value[:12] if _DIGEST.fullmatch(value) else shortened(value, _WIDEST)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return shortened(json.dumps(value, ensure_ascii=False), _WIDEST)
