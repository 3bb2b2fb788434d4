"""What a row kernel computes: expressions over the columns of one row, reductions included.

All that is no matrix product, attention or choice of experts is a row program: norms, rotary
embedding, activations, residuals, router scores, and the copies into the state. The rows of a
launch are *tokens* (or sequences) times *inner* things of each, such as heads: row = token * inner
+ i.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# What number of a row is multiplied by the outer stride of an access.
Place = Literal[
    "token",  # the token of the row (of a launch over sequences: the sequence)
    "position",  # the token's position in its sequence
    "last",  # the last token of the sequence; only of a launch over sequences
    "index",  # what the i32 operand `index` holds for the row
    "none",  # 0: all rows read the same
    "state",  # see `Access`
]
Function = Literal[
    "add", "sub", "mul", "div", "maximum", "minimum", "neg", "abs", "exp", "log", "sqrt", "rsqrt",
    "sin", "cos", "tanh", "erf", "sigmoid", "silu", "gelu", "gelu_tanh", "relu", "square",
    "floor",
]  # fmt: skip
Reduction = Literal["sum", "max", "mean"]


@dataclass(frozen=True)
class Access:
    """Where column c of a row lies in the operand `name`, whose elements are `element` (`bf16`).

    At element `place * outer + i * inner + offset + c * step`. For the place `state`: the
    contract's layout of sequences behind each other (see `hetc.bundle.launches`), in which `inner`
    is the width D of a row of a head, and the sequence has one head for each inner thing; with
    `keep` only the last rows of a sequence are there, and other rows write nothing.
    """

    name: str
    element: str
    place: Place = "token"
    outer: int = 0
    inner: int = 0
    offset: int = 0
    step: int = 1
    index: str = ""
    keep: int | None = None


@dataclass(frozen=True)
class Load:
    """The number at an access, as f32."""

    access: Access


@dataclass(frozen=True)
class Number:
    """A constant."""

    value: float


@dataclass(frozen=True)
class Position:
    """The position of the row's token in its sequence, as f32."""


@dataclass(frozen=True)
class Column:
    """The number of the column, as f32."""


@dataclass(frozen=True)
class Apply:
    """A function of each column."""

    function: Function
    arguments: tuple[Expression, ...]


@dataclass(frozen=True)
class Reduce:
    """One number for all columns of the row."""

    function: Reduction
    argument: Expression


@dataclass(frozen=True)
class At:
    """`argument` at column `(c // every * step + offset) % modulo` instead of c; a `Reduce` in it
    is the same for all columns. With `modulo` None nothing wraps."""

    argument: Expression
    step: int = 1
    offset: int = 0
    modulo: int | None = None
    every: int = 1


@dataclass(frozen=True)
class Below:
    """`then` in the columns below `limit`, `otherwise` in the others."""

    limit: int
    then: Expression
    otherwise: Expression


@dataclass(frozen=True)
class Rounded:
    """`argument` rounded to `element` and back: what a store and a load between two ops would
    do."""

    argument: Expression
    element: str


Expression = Load | Number | Position | Column | Apply | Reduce | At | Below | Rounded


@dataclass(frozen=True)
class Store:
    """`value` is written where `access` says, rounded to its element."""

    access: Access
    value: Expression


@dataclass(frozen=True)
class RowProgram:
    """`stores` for every row: `inner` rows of a token, `columns` of each. `over` sequences (B) or
    tokens (M). A row is held whole, in `columns` rounded up to a power of two."""

    columns: int
    stores: tuple[Store, ...]
    inner: int = 1
    over: Literal["tokens", "sequences"] = "tokens"

    @property
    def accesses(self) -> tuple[Access, ...]:
        """Every access, loads first, without repetitions."""
        found: dict[Access, None] = {}
        seen: set[int] = set()
        for store in self.stores:
            _loads(store.value, found, seen)
        return (*found, *(store.access for store in self.stores))


def _loads(expression: Expression, found: dict[Access, None], seen: set[int]) -> None:
    # What several expressions share is looked at once: they are graphs, no trees.
    if id(expression) in seen:
        return
    seen.add(id(expression))
    match expression:
        case Load(access):
            found[access] = None
        case Apply(_, arguments):
            for argument in arguments:
                _loads(argument, found, seen)
        case Reduce(_, argument) | At(argument) | Rounded(argument):
            _loads(argument, found, seen)
        case Below(_, then, otherwise):
            _loads(then, found, seen)
            _loads(otherwise, found, seen)
