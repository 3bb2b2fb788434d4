"""How IR values lie as rows: which axes are tokens, and what one token has.

Axes of sequences (B) and tokens (S) become the rows of a launch; what is left of a value is its
*columns*, row-major in the order of the axes, however the rows stood between them. So a transpose
of heads and tokens, and every reshape, leaves the columns as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

from hetc.ir.dims import Dim, DimLike

# Sequences, tokens of each, or a size.
Atom = str | int
Axis = tuple[Atom, ...]
# Of what there is one row: nothing (a constant), each position, each token, each sequence.
Domain = Literal["none", "positions", "tokens", "sequences"]
_ROWS = ("B", "S")


class Refusal(Exception):
    """Why a value cannot be computed by this backend; becomes a Reason."""

    def __init__(self, code: str, text: str, at: str = "") -> None:
        super().__init__(text)
        self.code, self.text, self.at = code, text, at


@dataclass(frozen=True)
class Layout:
    """The axes of a value, each the atoms that it is made of, and what it has a row for."""

    domain: Domain
    axes: tuple[Axis, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of each axis, what one row has of it."""
        return tuple(prod(atom for atom in axis if isinstance(atom, int)) for axis in self.axes)

    @property
    def columns(self) -> int:
        """Elements of one row."""
        return prod(self.sizes)


def atoms(dim: DimLike) -> Axis:
    """The atoms of an axis that nothing has merged; raises Refusal (HETC-E056) for a sum."""
    if not isinstance(dim, Dim):
        return () if dim == 1 else (dim,)
    if len(dim.terms) != 1:
        raise Refusal("HETC-E056", f"rows of {dim} are no tokens")
    names, factor = dim.terms[0]
    if factor != 1 or len(names) != 1 or names[0] not in _ROWS:
        raise Refusal("HETC-E056", f"rows of {dim} are no tokens")
    return names


def merged(axis: Axis) -> Axis:
    """The axis with sizes beside each other as one, and none of 1."""
    result: list[Atom] = []
    for atom in axis:
        if isinstance(atom, int) and result and isinstance(result[-1], int):
            result[-1] *= atom
        elif atom != 1:
            result.append(atom)
    return tuple(result)


def regrouped(layout: Layout, shape: tuple[DimLike, ...]) -> Layout:
    """The layout after a reshape to `shape`; raises Refusal (HETC-E056) where tokens and columns
    would mix."""
    left = list(merged(tuple(atom for axis in layout.axes for atom in axis)))
    axes: list[Axis] = []
    for dim in shape:
        names = list(dim.terms[0][0]) if isinstance(dim, Dim) else []
        size = dim.terms[0][1] if isinstance(dim, Dim) else dim
        axis: list[Atom] = []
        while names or size > 1:
            atom = left.pop(0) if left else 0
            if isinstance(atom, str) and atom in names:
                names.remove(atom)
                axis.append(atom)
            elif isinstance(atom, int) and atom and size % atom == 0:
                size //= atom
                axis.append(atom)
            elif isinstance(atom, int) and size > 1 and atom % size == 0:
                left.insert(0, atom // size)
                axis.append(size)
                size = 1
            else:
                told = ", ".join(map(str, shape))
                raise Refusal("HETC-E056", f"a reshape to [{told}] mixes tokens and columns")
        axes.append(merged(tuple(axis)))
    return Layout(layout.domain, tuple(axes))


def joined(layouts: list[Layout]) -> Layout:
    """The layout of values broadcast together; raises Refusal (HETC-E056) where rows differ."""
    domains = {layout.domain for layout in layouts} - {"none"}
    if "tokens" in domains:
        domains -= {"positions"}
    if len(domains) > 1:
        raise Refusal("HETC-E056", "rows of tokens meet rows of sequences")
    rank = max(len(layout.axes) for layout in layouts)
    padded = [((),) * (rank - len(layout.axes)) + layout.axes for layout in layouts]
    axes: list[Axis] = []
    for column in zip(*padded, strict=True):
        kinds = {axis for axis in column if axis}
        # One that stands for all sequences meets one of each.
        kinds = {axis for axis in kinds if not any(set(axis) < set(other) for other in kinds)}
        if len(kinds) > 1:
            raise Refusal("HETC-E056", "axes that mean different rows meet")
        axes.append(kinds.pop() if kinds else ())
    return Layout(domains.pop() if domains else "none", tuple(axes))
