"""The names of axes in a captured decode step: B sequences of T tokens, of which it has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hetc.ir.dims import DimLike, product, symbol, symbols_of
from hetc.ir.types import Shape

B, P, T = symbol("B"), symbol("P"), symbol("T")


def reshaped(source: Shape, captured: Shape, batch: DimLike) -> Shape | None:
    """The shape of what a reshape makes of `source`, where it was captured as `captured`: the first
    axes in order that can be the sequences and the tokens, or one axis for both where no two can.

    None where there are none.
    """
    rows = _rows(captured, batch)
    if rows is not None and _begins_with_rows(source) and product(rows) == product(source):
        return rows
    named = [dim for dim in source if not isinstance(dim, int)]
    choices: list[Sequence[DimLike]] = [named]
    if named == [B, T] or (len(named) == 1 and symbols_of(named[0]) == {"B", "T"}):
        choices = [(B, T), (B * T,)]
    found = (_with_names(captured, {B: batch, T: 1, B * T: batch}, names) for names in choices)
    return next((shape for shape in found if shape is not None), None)


def _rows(captured: Shape, batch: DimLike) -> Shape | None:
    """The shape where its first axis holds the tokens so many times, such as for the experts that
    they go to."""
    if not captured or not isinstance(batch, int) or not isinstance(captured[0], int):
        return None
    times, rest = divmod(captured[0], batch)
    return (B * T * times, *captured[1:]) if times > 1 and not rest else None


def _begins_with_rows(shape: Shape) -> bool:
    """Whether all tokens stand in the first axis, or in the first two."""
    return shape[:2] == (B, T) or (bool(shape) and symbols_of(shape[0]) == {"B", "T"})


def _with_names(
    shape: Shape, sizes: Mapping[DimLike, DimLike], names: Sequence[DimLike]
) -> Shape | None:
    """`shape` with `names` in order at the first axes that have their sizes; None where there are
    too few."""
    result = list(shape)
    axis = 0
    for name in names:
        while axis < len(result) and shape[axis] != sizes.get(name):
            axis += 1
        if axis == len(result):
            return None
        result[axis] = name
        axis += 1
    return tuple(result)
