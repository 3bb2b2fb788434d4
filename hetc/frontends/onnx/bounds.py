"""What can be said about sizes without knowing them: comparisons of dims, given the least value of
every symbol.
"""

from __future__ import annotations

import re

from hetc.ir.dims import Dim, DimLike

_SIZE = re.compile("N[0-9]+")
# A past may be empty, and so may what data count; a batch and a run of new tokens may not.
_MAY_BE_EMPTY = re.compile("P|U[0-9]+")


def at_least(value: DimLike) -> int | None:
    """The least that `value` can be, or None where it has no bound that is easy to see."""
    if isinstance(value, int):
        return value
    least = 0
    for monomial, factor in value.terms:
        if monomial and factor < 0:
            return None
        product = factor
        for name in monomial:
            product *= 0 if _MAY_BE_EMPTY.fullmatch(name) else 1
        least += product
    return least


def at_most(value: DimLike) -> int | None:
    """The most that `value` can be, or None."""
    least = at_least(-value)
    return None if least is None else -least


def less(a: DimLike, b: DimLike) -> bool | None:
    """Whether a < b for every size; None where that depends on the sizes."""
    least, most = at_least(b - a), at_most(b - a)
    if least is not None and least > 0:
        return True
    if most is not None and most <= 0:
        return False
    return None


def equal(a: DimLike, b: DimLike) -> bool | None:
    """Whether a == b for every size; None where that depends on the sizes."""
    difference = a - b
    if isinstance(difference, int):
        return difference == 0
    least, most = at_least(difference), at_most(difference)
    return False if (least is not None and least > 0) or (most is not None and most < 0) else None


def bounded_count(value: DimLike, limit: int) -> tuple[Dim, int] | None:
    """The count that `value` is, but for a number added, and the most it may be for `value` <=
    `limit`; None where it is no such count.

    Counts are the tokens of a sequence, `S` or `P+T`, and the sizes `N0`, `N1`, ... of a graph that
    is imported whole.
    """
    if not isinstance(value, Dim):
        return None
    offset = dict(value.terms).get((), 0)
    count = value - offset
    if not isinstance(count, Dim) or not (
        str(count) in ("S", "P+T") or _SIZE.fullmatch(str(count))
    ):
        return None
    return count, limit - offset
