"""PyTorch's symbolic sizes (sympy expressions) as hetc's dims, which are polynomials in `B` and
`S`.

Expressions are read by their structure, so that sympy itself is never imported here. `Max`, `Min`,
divisions and remainders are resolved with the declared ranges of the symbols or by exact division;
what remains is not a polynomial and says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from hetc.ir.dims import DimLike, Monomial, symbol

Polynomial = dict[Monomial, Fraction]
Range = tuple[float, float]


class NotAPolynomial(ValueError):
    """A size that no polynomial in the bound symbols equals; the text says which part and why."""


class Symbols:
    """Which symbol of the export stands for which of hetc's, and their ranges."""

    def __init__(self, ranges: dict[Any, Range]) -> None:
        self._declared = ranges
        self._meaning: dict[Any, Polynomial] = {}
        self._dims: dict[Any, DimLike] = {}
        self.ranges: dict[str, Range] = {}

    def bind(self, size: Any, name: str) -> DimLike:
        """Call the size of an input axis `name` and return its dim; a static size stays a number.

        An axis that is an expression of one symbol, such as `4*k`, keeps `name` for the whole
        expression. Raises NotAPolynomial where the symbol cannot be solved for.
        """
        if isinstance(size, int):
            return size
        expr = size.node.expr
        unknown = [free for free in expr.free_symbols if free not in self._meaning]
        if len(unknown) != 1:
            raise NotAPolynomial(f"the axis {expr} is not one new symbol")
        (free,) = unknown
        self._meaning[free] = {("?",): Fraction(1)}
        axis = self._convert(expr)
        slope, offset = axis.pop(("?",), Fraction(0)), axis.pop((), Fraction(0))
        if axis or not slope:
            raise NotAPolynomial(f"{expr} cannot be solved for {free}")
        self._meaning[free] = {(name,): 1 / slope, (): -offset / slope}
        low, high = self._declared.get(free, (1, math.inf))
        ends = sorted(float(slope) * end + float(offset) for end in (low, high))
        self.ranges[name] = (max(1.0, ends[0]), ends[1])
        self._dims.clear()
        return symbol(name)

    def knows(self, size: Any) -> bool:
        """Whether every symbol of a size has a name."""
        return isinstance(size, int) or all(
            free in self._meaning for free in size.node.expr.free_symbols
        )

    def dim(self, size: Any) -> DimLike:
        """A size of the export as a dim; raises NotAPolynomial."""
        if isinstance(size, int):
            return size
        expr = size.node.expr
        known = self._dims.get(expr)
        if known is None:
            known = self._dims[expr] = _as_dim(self._convert(expr), expr)
        return known

    def _convert(self, expr: Any) -> Polynomial:
        if expr.is_Rational:
            return _clean({(): Fraction(int(expr.p), int(expr.q))})
        if expr.is_Symbol:
            if expr not in self._meaning:
                raise NotAPolynomial(
                    f"the size {expr} depends on data, or on an axis other than batch and sequence"
                )
            return self._meaning[expr]
        kind = expr.func.__name__
        args = expr.args
        if kind in ("Pow", "PowByNatural") and args[1].is_Integer and int(args[1]) >= 0:
            return _product([self._convert(args[0])] * int(args[1]))
        parts = [self._convert(arg) for arg in args]
        if kind == "Add":
            return _sum(parts)
        if kind == "Mul":
            return _product(parts)
        if kind in ("Max", "Min"):
            return self._extreme(parts, expr, 1 if kind == "Max" else -1)
        if kind in ("FloorDiv", "CleanDiv", "IntTrueDiv"):
            return self._divide(parts[0], parts[1], expr)
        if kind in ("Mod", "PythonMod"):
            quotient = _quotient(parts[0], parts[1])
            if quotient is not None and _is_integral(quotient):
                return {}
        if kind in _ROUNDINGS and _is_integral(parts[0]):
            return parts[0]
        raise NotAPolynomial(f"the size {expr} is not a polynomial in batch and sequence")

    def _extreme(self, parts: list[Polynomial], expr: Any, sign: int) -> Polynomial:
        for candidate in parts:
            gaps = (_sum([candidate, _scaled(other, -1)]) for other in parts)
            if all(self._interval(_scaled(gap, sign))[0] >= 0 for gap in gaps):
                return candidate
        raise NotAPolynomial(
            f"which side of {expr} is taken depends on the sizes: narrow the range of the dims"
        )

    def _divide(self, top: Polynomial, bottom: Polynomial, expr: Any) -> Polynomial:
        quotient = _quotient(top, bottom)
        if quotient is not None and _is_integral(quotient):
            return quotient
        if quotient is not None:
            ends = [math.floor(end) for end in self._interval(quotient) if math.isfinite(end)]
            if len(ends) == 2 and ends[0] == ends[1]:
                return _clean({(): Fraction(ends[0])})
        raise NotAPolynomial(f"{expr} is not exact for every size: declare the dim as a multiple")

    def _interval(self, poly: Polynomial) -> Range:
        low = high = 0.0
        for monomial, factor in poly.items():
            ends = [self.ranges.get(name, (1.0, math.inf)) for name in monomial]
            smallest = float(factor) * math.prod(end[0] for end in ends)
            largest = float(factor) * math.prod(end[1] for end in ends)
            low, high = low + min(smallest, largest), high + max(smallest, largest)
        # Opposite infinities: nothing is known.
        return (-math.inf if math.isnan(low) else low, math.inf if math.isnan(high) else high)


_ROUNDINGS = {
    "floor",
    "ceiling",
    "FloorToInt",
    "CeilToInt",
    "TruncToInt",
    "RoundToInt",
    "ToFloat",
    "Identity",
}


def _clean(poly: Polynomial) -> Polynomial:
    return {monomial: factor for monomial, factor in poly.items() if factor}


def _sum(parts: Iterable[Polynomial]) -> Polynomial:
    total: Polynomial = {}
    for part in parts:
        for monomial, factor in part.items():
            total[monomial] = total.get(monomial, Fraction(0)) + factor
    return _clean(total)


def _product(parts: Iterable[Polynomial]) -> Polynomial:
    total: Polynomial = {(): Fraction(1)}
    for part in parts:
        total = _sum(
            {tuple(sorted((*a, *b))): x * y} for a, x in total.items() for b, y in part.items()
        )
    return total


def _scaled(poly: Polynomial, factor: int) -> Polynomial:
    return {monomial: value * factor for monomial, value in poly.items()}


def _quotient(top: Polynomial, bottom: Polynomial) -> Polynomial | None:
    """`top / bottom` with rational coefficients, for a divisor of one term; None where it is no
    polynomial."""
    if top == bottom:
        return {(): Fraction(1)}
    if len(bottom) != 1:
        return None
    ((symbols, factor),) = bottom.items()
    result: Polynomial = {}
    for monomial, value in top.items():
        rest = list(monomial)
        for name in symbols:
            if name not in rest:
                return None
            rest.remove(name)
        result[tuple(rest)] = value / factor
    return result


def _is_integral(poly: Polynomial) -> bool:
    return all(factor.denominator == 1 for factor in poly.values())


def _as_dim(poly: Polynomial, expr: Any) -> DimLike:
    if not _is_integral(poly):
        raise NotAPolynomial(f"the size {expr} is not a whole multiple of the input's axes")
    total: DimLike = 0
    for monomial, factor in poly.items():
        term: DimLike = int(factor)
        for name in monomial:
            term = term * symbol(name)
        total = total + term
    return total
