"""Symbolic dimensions: integer polynomials over named symbols such as `B`, `S`, `T` and `P`.

Merging two axes multiplies their dims, so products of symbols are needed beside sums: `B*S`, `P+T`,
`2*B*S+1`. A polynomial that is constant is a plain `int`, so that static shapes cost nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from hetc.errors import IRError

Monomial = tuple[str, ...]
Term = tuple[Monomial, int]


@dataclass(frozen=True)
class Dim:
    """A polynomial with integer coefficients.

    `terms` are never zero and sorted: longer monomials first, then by name, the constant last.
    """

    terms: tuple[Term, ...]

    @cached_property
    def symbols(self) -> frozenset[str]:
        return frozenset(name for monomial, _ in self.terms for name in monomial)

    @cached_property
    def is_symbol(self) -> bool:
        """Whether it is one symbol and nothing else."""
        return len(self.terms) == 1 and self.terms[0][1] == 1 and len(self.terms[0][0]) == 1

    @cached_property
    def _hash(self) -> int:
        return hash(self.terms)

    def __hash__(self) -> int:
        return self._hash

    def __add__(self, other: DimLike) -> DimLike:
        if other == 0:
            return self
        return _from_terms((*self.terms, *_terms(other)))

    __radd__ = __add__

    def __neg__(self) -> DimLike:
        return Dim(tuple((monomial, -factor) for monomial, factor in self.terms))

    def __sub__(self, other: DimLike) -> DimLike:
        return self + -other

    def __rsub__(self, other: DimLike) -> DimLike:
        return -self + other

    def __mul__(self, other: DimLike) -> DimLike:
        if isinstance(other, int):
            if other == 1:
                return self
            scaled = tuple((monomial, factor * other) for monomial, factor in self.terms)
            return Dim(scaled) if other else 0
        return _from_terms(
            (tuple(sorted((*left, *right))), a * b)
            for left, a in self.terms
            for right, b in _terms(other)
        )

    __rmul__ = __mul__

    def __floordiv__(self, other: DimLike) -> DimLike:
        return exact_div(self, other)

    def __rfloordiv__(self, other: int) -> DimLike:
        return exact_div(other, self)

    def substitute(self, values: Mapping[str, DimLike]) -> DimLike:
        """This polynomial with some symbols replaced."""
        if self.symbols.isdisjoint(values):
            return self
        total: DimLike = 0
        for monomial, factor in self.terms:
            product: DimLike = factor
            for name in monomial:
                product = product * values.get(name, symbol(name))
            total = total + product
        return total

    @cached_property
    def _text(self) -> str:
        return "".join(_term_text(*term, first=not place) for place, term in enumerate(self.terms))

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Dim({self})"


DimLike = int | Dim


def _term_text(monomial: Monomial, factor: int, *, first: bool) -> str:
    sign = "-" if factor < 0 else "" if first else "+"
    if not monomial:
        return f"{sign}{abs(factor)}"
    body = "*".join(monomial)
    return f"{sign}{body}" if abs(factor) == 1 else f"{sign}{abs(factor)}*{body}"


_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# In the text form these words mean something else, or start something else.
_RESERVED = frozenset({"true", "false", "none", "inf", "nan"}) | frozenset(
    {
        "f64",
        "f32",
        "f16",
        "bf16",
        "f8e4m3",
        "f8e5m2",
        "i64",
        "i32",
        "i16",
        "i8",
        "u64",
        "u32",
        "u16",
        "u8",
        "bool",
        "c64",
    }
)


@lru_cache(maxsize=4096)
def symbol(name: str) -> Dim:
    """The dim that is just the symbol `name`: letters, digits and _, no word of the text form.

    Raises IRError (HETC-X004) for another name.
    """
    if not _SYMBOL.fullmatch(name) or name in _RESERVED:
        raise IRError("HETC-X004", f"{name!r} cannot be the name of a size")
    return Dim((((name,), 1),))


_TERM = re.compile(r"([-+]?)([A-Za-z0-9_]+(?:\*[A-Za-z0-9_]+)*)")


@lru_cache(maxsize=65536)
def parse_dim(text: str) -> DimLike:
    """The inverse of `str`: `2*B*S-1`; raises IRError (HETC-X004) for anything else."""
    total: DimLike = 0
    position = 0
    while position < len(text):
        match = _TERM.match(text, position)
        if match is None or (position and not match[1]):
            raise IRError("HETC-X004", f"{text!r} is not a size", expected="such as 2*B*S-1")
        product: DimLike = -1 if match[1] == "-" else 1
        for factor in match[2].split("*"):
            digits = factor.isdecimal() and len(factor) <= _MOST_DIGITS
            product = product * (int(factor) if digits else symbol(factor))
        total = total + product
        position = match.end()
    if not text:
        raise IRError("HETC-X004", "a size is missing", expected="such as 2*B*S-1")
    return total


# Python itself reads no longer numbers.
_MOST_DIGITS = 4000


def _terms(value: DimLike) -> tuple[Term, ...]:
    if isinstance(value, Dim):
        return value.terms
    return (((), int(value)),) if value else ()


def _order(term: Term) -> tuple[int, Monomial]:
    # Longer monomials first and the constant last: `B*S+P+1` reads as people write it. It is also
    # an order that products keep (graded lexicographic), which exact division needs.
    return -len(term[0]), term[0]


def _from_terms(terms: Iterable[Term]) -> DimLike:
    total: dict[Monomial, int] = {}
    for monomial, factor in terms:
        total[monomial] = total.get(monomial, 0) + factor
    kept = {monomial: factor for monomial, factor in total.items() if factor}
    if not kept:
        return 0
    if len(kept) == 1 and () in kept:
        return kept[()]
    return Dim(tuple(sorted(kept.items(), key=_order)))


def exact_div(value: DimLike, divisor: DimLike) -> DimLike:
    """`value / divisor` where it is a polynomial again; raises IRError (HETC-X001) where not."""
    if isinstance(value, int) and isinstance(divisor, int):
        if divisor and value % divisor == 0:
            return value // divisor
    elif value == divisor:
        return 1
    elif divisor != 0:
        # Long division, leading term by leading term; nothing may be left over.
        lead, factor = _terms(divisor)[0]
        quotient: DimLike = 0
        rest = value
        while rest != 0:
            monomial, coefficient = _terms(rest)[0]
            left = _without(monomial, lead)
            if left is None or coefficient % factor:
                break
            part = _from_terms([(left, coefficient // factor)])
            quotient = quotient + part
            rest = rest - part * divisor
        else:
            return quotient
    raise IRError("HETC-X001", f"{value} is not divisible by {divisor} for every size")


def _without(monomial: Monomial, part: Monomial) -> Monomial | None:
    rest = list(monomial)
    for name in part:
        if name not in rest:
            return None
        rest.remove(name)
    return tuple(rest)


def substitute(value: DimLike, values: Mapping[str, DimLike]) -> DimLike:
    """`value` with some symbols replaced; an int stays itself."""
    return value.substitute(values) if isinstance(value, Dim) else value


def evaluate(value: DimLike, values: Mapping[str, int]) -> int:
    """`value` as a number; raises IRError (HETC-X002) where a symbol has none.

    `W<n>` is min(P, n) and `K<n>` is min(P+T, n): rows of a window of n before and after a step.
    Without P, in prefill, both are min(S, n): the rows that S tokens leave.
    """
    if not isinstance(value, Dim):
        return value
    total = 0
    for monomial, factor in value.terms:
        for name in monomial:
            number = values.get(name)
            if number is None:
                number = _capped(name, values)
            if number is None:
                missing = ", ".join(sorted(value.symbols - values.keys()))
                raise IRError("HETC-X002", f"the size {value} needs a value for {missing}")
            factor *= number
        total += factor
    return total


_CAPPED = re.compile(r"([WK])([0-9]+)")


def capped_rows(name: str) -> int | None:
    """The n of a symbol `W<n>` or `K<n>`, None for any other symbol."""
    match = _CAPPED.fullmatch(name)
    return int(match[2]) if match else None


def _capped(name: str, values: Mapping[str, int]) -> int | None:
    most = capped_rows(name)
    if most is None:
        return None
    if "P" not in values:
        rows = values.get("S")
    elif name[0] == "W":
        rows = values["P"]
    else:
        rows = values["P"] + values.get("T", values.get("S", 0))
    return None if rows is None else min(rows, most)


def product(dims: Iterable[DimLike]) -> DimLike:
    """The product of `dims`; 1 for none."""
    total: DimLike = 1
    for dim in dims:
        total = total * dim
    return total


def symbols_of(value: DimLike) -> frozenset[str]:
    """The symbols in `value`."""
    return value.symbols if isinstance(value, Dim) else frozenset()
