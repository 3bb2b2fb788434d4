"""PyTorch's size expressions as polynomials in B and S."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
from torch.utils._sympy import functions

from hetc.frontends.torch_export.symbols import NotAPolynomial, Symbols
from hetc.ir.dims import evaluate

# Neither sympy nor PyTorch's functions on top of it are typed.
sympy: Any = importlib.import_module("sympy")
CleanDiv, FloorDiv, Max, Min, Mod, PythonMod = (
    getattr(functions, name) for name in ("CleanDiv", "FloorDiv", "Max", "Min", "Mod", "PythonMod")
)
b, s, u = (sympy.Symbol(name, positive=True, integer=True) for name in ("s0", "s1", "u0"))


def size(expr: Any) -> Any:
    return SimpleNamespace(node=SimpleNamespace(expr=expr))


def bound(low: float = 1, high: float = 100) -> Symbols:
    symbols = Symbols({b: (1, 8), s: (low, high)})
    symbols.bind(size(s), "S")
    symbols.bind(size(b), "B")
    return symbols


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (s + 1, "S+1"),
        (2 * b * s - 3, "2*B*S-3"),
        (s**2, "S*S"),
        ((b + 1) * (s - 1), "B*S-B+S-1"),
        (Max(1, s), "S"),
        (1 - Max(0, 1 - s), "1"),
        (Min(64, 64 * s), "64"),
        (Min(s, 4096), "S"),
        (FloorDiv(6 * s, 3), "2*S"),
        (CleanDiv(b * s * 8, 4 * b), "2*S"),
        (Mod(8 * s, 4), "0"),
        (PythonMod(b * s, s), "0"),
        (FloorDiv(s, 1000), "0"),
        (sympy.floor(s), "S"),
    ],
)
def test_polynomials(expr: Any, text: str) -> None:
    assert str(bound().dim(size(expr))) == text


@pytest.mark.parametrize(
    ("expr", "reason"),
    [
        (u + s, "depends on data"),
        (FloorDiv(s, 4), "not exact"),
        (Mod(s, 4), "not a polynomial"),
        (Max(50, s), "narrow the range"),
        (sympy.sqrt(s), "not a polynomial"),
    ],
)
def test_what_is_no_polynomial_says_why(expr: Any, reason: str) -> None:
    with pytest.raises(NotAPolynomial, match=reason):
        bound().dim(size(expr))


def test_a_range_decides_a_maximum() -> None:
    assert str(bound(low=50).dim(size(Max(50, s)))) == "S"
    assert str(bound(high=50).dim(size(Max(50, s)))) == "50"


def test_a_minimum_bounds_the_sequence_to_where_it_is_one_side() -> None:
    symbols = bound(high=100)
    assert str(symbols.dim(size(Min(32, s)))) == "S"
    assert list(symbols.ranges["S"]) == [1, 32]
    assert symbols.narrowed == [(32, "Min(32, S)")]
    # What was read before is still so for the shorter sequences.
    assert str(symbols.dim(size(Min(64, s)))) == "S"
    assert str(symbols.dim(size(Min(3 * s, 60)))) == "3*S"
    assert list(symbols.ranges["S"]) == [1, 20]


@pytest.mark.parametrize(
    ("condition", "longest"),
    [
        (s <= 40, 40),
        (s < 40, 39),
        (sympy.Ge(40, s), 40),
        (sympy.Gt(40, s), 39),
        (sympy.Ne(s, 100), 99),
        (sympy.Ne(s, 0), 100),
        (sympy.Le(Min(32, s), s), 32),
        (sympy.Eq(b * s * Min(32, 32 * s), 32 * b * s), 100),
        (sympy.Eq(Mod(8 * s, 4), 0), 100),
        (sympy.Le(2 * b * s, 4 * b * s), 100),
        (sympy.true, 100),
    ],
)
def test_an_assertion_holds_up_to_a_length(condition: Any, longest: int) -> None:
    symbols = bound(high=100)
    assert symbols.known(size(condition))
    symbols.require(size(condition))
    assert list(symbols.ranges["S"]) == [1, longest]
    # An assertion that fails for a length up to the bound would be a wrong program.
    if condition is not sympy.true:
        assert all(
            condition.subs({s: length, b: 3}) == sympy.true for length in range(1, longest + 1)
        )


@pytest.mark.parametrize(
    "condition",
    [
        sympy.Ge(s, 2),
        sympy.Gt(s, 50),
        sympy.Eq(s, 12),
        sympy.Ne(s, 2),
        sympy.Eq(Mod(s, 4), 0),
        sympy.Le(b * s, 64),
        sympy.Or(s <= 40, s > 50),
        sympy.false,
    ],
)
def test_an_assertion_that_fails_for_short_sequences_is_refused(condition: Any) -> None:
    with pytest.raises(NotAPolynomial):
        bound().require(size(condition))


def test_an_assertion_about_data_is_not_about_sizes() -> None:
    assert not bound().known(size(sympy.Ge(u, 2)))


def test_an_axis_that_is_an_expression_keeps_one_name() -> None:
    symbols = Symbols({s: (1, 9)})
    axis = symbols.bind(size(4 * s), "S")
    assert str(axis) == "S"
    assert list(symbols.ranges["S"]) == [4, 36]
    assert str(symbols.dim(size(8 * s + 1))) == "2*S+1"
    with pytest.raises(NotAPolynomial, match="whole multiple"):
        symbols.dim(size(2 * s))


@pytest.mark.parametrize("expr", [s * b, s**2])
def test_an_axis_that_cannot_be_solved(expr: Any) -> None:
    with pytest.raises(NotAPolynomial):
        Symbols({}).bind(size(expr), "S")


@pytest.mark.parametrize(
    "expr",
    [
        Max(0, s - 7),
        Min(7, s),
        Max(0, 9 - s),
        Min(5, 12 - s),
        Max(3, s + 1),
        Min(3, s + 1) + 2 * Max(0, s - 4),
    ],
)
def test_extremes_of_the_position_are_rows_of_windows(expr: Any) -> None:
    symbols = Symbols({})
    symbols.name(s, "P")
    dim = symbols.dim(size(expr))
    for past in range(1, 20):
        assert evaluate(dim, {"P": past}) == expr.subs(s, past)


@pytest.mark.parametrize("expr", [Max(0, 2 * s - 7), Max(s - 3, 9 - s)])
def test_other_extremes_of_the_position_are_refused(expr: Any) -> None:
    symbols = Symbols({})
    symbols.name(s, "P")
    with pytest.raises(NotAPolynomial, match="which side"):
        symbols.dim(size(expr))


def test_a_symbol_that_is_a_number() -> None:
    symbols = Symbols({})
    symbols.fix(s, 7)
    assert symbols.dim(size(2 * s + 1)) == 15
