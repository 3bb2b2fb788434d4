"""PyTorch's symbolic sizes (sympy expressions) as hetc's dims, which are polynomials in `B` and
`S`.

Expressions are read by their structure, so that sympy itself is never imported here. `Max`, `Min`,
divisions and remainders are resolved with the declared ranges of the symbols or by exact division;
what remains is not a polynomial and says so. Where the answer is another beyond some length (the
`min(2048, S)` of a sparse indexer), the range of `S` is narrowed to where it is one answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

from hetc.ir.dims import DimLike, Monomial, symbol

Polynomial = dict[Monomial, Fraction]
Range = tuple[float, float]


class NotAPolynomial(ValueError):
    """A size that no polynomial in the bound symbols equals; the text says which part and why."""


class Symbols:
    """Which symbol of the export stands for which of hetc's, and their ranges.

    `narrowed` holds the longest length of each narrowing, and the expression that asked for it.
    """

    def __init__(self, ranges: dict[Any, Range]) -> None:
        self._declared = ranges
        self._meaning: dict[Any, Polynomial] = {}
        self._dims: dict[Any, DimLike] = {}
        self.ranges: dict[str, Range] = {}
        self.narrowed: list[tuple[int, str]] = []

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

    def name(self, expr: Any, name: str, bounds: Range = (0.0, math.inf)) -> DimLike:
        """Call a whole expression `name`, as if nothing were known of its parts."""
        self._meaning[expr] = {(name,): Fraction(1)}
        self.ranges[name] = bounds
        self._dims.clear()
        return symbol(name)

    def fix(self, expr: Any, number: int) -> None:
        """Take a whole expression for a number."""
        self._meaning[expr] = _clean({(): Fraction(number)})
        self._dims.clear()

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
        if expr in self._meaning:
            return self._meaning[expr]
        if expr.is_Symbol:
            raise NotAPolynomial(
                f"the size {expr} depends on data, or on an axis other than batch and sequence"
            )
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

    def known(self, condition: Any) -> bool:
        """Whether a condition is about bound sizes alone, and not about data."""
        return all(free in self._meaning for free in condition.node.expr.free_symbols)

    def require(self, condition: Any) -> None:
        """Make sure that a condition on sizes holds, narrowing the range of `S` where it holds only
        up to some length; raises NotAPolynomial where it may fail, or depends on data."""
        expr = condition.node.expr
        try:
            reach = self._holds_to(expr)
        except NotAPolynomial as error:
            raise NotAPolynomial(f"the export asserts {expr}, and {error}") from error
        if reach < _SHORTEST:
            raise NotAPolynomial(f"the export asserts {expr}")
        self._narrow(reach, expr)

    def _holds_to(self, expr: Any) -> float:
        """The longest `S` up to which a condition holds for every length; 0 where that is not
        known."""
        longest = self.ranges.get("S", (1.0, math.inf))[1]
        if expr.is_Boolean and not expr.args:
            # sympy's own true and false.
            return longest if bool(expr) else 0.0
        kind = expr.func.__name__
        if kind not in _RELATIONS:
            raise NotAPolynomial("hetc reads comparisons of two sizes alone")
        left, right = (self._convert(arg) for arg in expr.args)
        gaps = [
            _sum([_scaled(left, sign), _scaled(right, -sign), _clean({(): Fraction(offset)})])
            for sign, offset in _RELATIONS[kind]
        ]
        if kind == "Equality":
            return 0.0 if gaps[0] else longest
        return max(self._reach([gap]) for gap in gaps)

    def _extreme(self, parts: list[Polynomial], expr: Any, sign: int) -> Polynomial:
        best: tuple[float, Polynomial] = (0.0, {})
        for candidate in parts:
            gaps = [_scaled(_sum([candidate, _scaled(other, -1)]), sign) for other in parts]
            reach = self._reach(gaps)
            if reach > best[0]:
                best = (reach, candidate)
        longest = self.ranges.get("S", (1.0, math.inf))[1]
        # A maximum is a size that short sequences are padded to: nobody wants those alone.
        if best[0] >= (_SHORTEST if sign < 0 else longest):
            self._narrow(best[0], expr)
            return best[1]
        if (capped := _capped(parts, sign)) is not None:
            return capped
        raise NotAPolynomial(
            f"which side of {expr} is taken depends on the sizes: narrow the range of the dims"
        )

    def _reach(self, gaps: list[Polynomial]) -> float:
        """The longest `S` up to which no gap is negative; 0 where that is not known."""
        low, reach = self.ranges.get("S", (1.0, math.inf))
        for gap in gaps:
            if self._interval(gap)[0] >= 0:
                continue
            slope, offset = gap.get(("S",), Fraction(0)), gap.get((), Fraction(0))
            if slope >= 0 or set(gap) - {("S",), ()}:
                return 0.0
            reach = min(reach, float(math.floor(offset / -slope)))
        return reach if reach >= low else 0.0

    def _narrow(self, reach: float, expr: Any) -> None:
        low, high = self.ranges.get("S", (1.0, math.inf))
        if reach < high:
            self.ranges["S"] = (low, reach)
            self.narrowed.append((int(reach), self._text(expr)))

    def _text(self, expr: Any) -> str:
        """An expression with hetc's names for the symbols that have one."""
        text = str(expr)
        for free, meaning in self._meaning.items():
            ((monomial, factor), *rest) = _clean(meaning).items()
            if len(monomial) == 1 and factor == 1 and not rest:
                text = re.sub(rf"\b{re.escape(str(free))}\b", monomial[0], text)
        return text

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


# A length to which narrowing is worth its while: below it there is no decoding.
_SHORTEST = 2
# Relation -> (sign, offset) of the gaps `sign * (left - right) + offset` of which one must not be
# negative; sizes are whole numbers. For equality the gap must be zero.
_RELATIONS: dict[str, tuple[tuple[int, int], ...]] = {
    "Equality": ((1, 0),),
    "Unequality": ((1, -1), (-1, -1)),
    "LessThan": ((-1, 0),),
    "StrictLessThan": ((-1, -1),),
    "GreaterThan": ((1, 0),),
    "StrictGreaterThan": ((1, -1),),
}
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


def _capped(parts: Sequence[Polynomial], sign: int) -> Polynomial | None:
    """The larger (sign 1) or smaller of `P+a` or `a-P` and a number, by `W<n>`, which is min(P, n);
    None for others."""
    for moving, fixed in (parts, parts[::-1]) if len(parts) == 2 else ():
        slope, offset = moving.get(("P",)), moving.get((), Fraction(0))
        if set(moving) - {("P",), ()} or slope not in (1, -1) or set(fixed) - {()}:
            continue
        # Where both are the same.
        rows = slope * (fixed.get((), Fraction(0)) - offset)
        if rows.denominator != 1 or rows <= 0:
            continue
        capped = _sum([{(f"W{rows}",): slope}, {(): offset}])
        # min(P, n) grows up to n: it makes the smaller of what grows, the larger of what falls.
        return capped if slope == -sign else _sum([moving, fixed, _scaled(capped, -1)])
    return None


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
