"""Sizes are polynomials: their algebra against the same arithmetic on numbers."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetc.errors import IRError
from hetc.ir.dims import (
    Dim,
    DimLike,
    capped_rows,
    evaluate,
    exact_div,
    parse_dim,
    product,
    substitute,
    symbol,
    symbols_of,
)
from tests.ir.strategies import SYMBOLS, polynomials

B, S, P, T = (symbol(name) for name in "BSPT")
bindings = st.fixed_dictionaries({name: st.integers(-20, 20) for name in SYMBOLS})


@given(polynomials(), polynomials(), bindings)
def test_arithmetic_is_that_of_the_values(a: DimLike, b: DimLike, at: dict[str, int]) -> None:
    x, y = evaluate(a, at), evaluate(b, at)
    assert evaluate(a + b, at) == x + y
    assert evaluate(a - b, at) == x - y
    assert evaluate(a * b, at) == x * y
    assert evaluate(-a, at) == -x


@given(polynomials(), polynomials(), polynomials())
def test_equal_polynomials_are_equal_objects(a: DimLike, b: DimLike, c: DimLike) -> None:
    assert a * (b + c) == a * b + c * a
    assert (a + b) - b == a
    assert hash(a + b) == hash(b + a)
    assert not isinstance(a - a, Dim)


@given(polynomials(), polynomials().filter(lambda d: d != 0))
def test_exact_division_undoes_multiplication(a: DimLike, b: DimLike) -> None:
    assert exact_div(a * b, b) == a


@given(polynomials(), polynomials().filter(lambda d: d != 0))
def test_a_quotient_is_exact_or_an_error(a: DimLike, b: DimLike) -> None:
    with contextlib.suppress(IRError):
        assert exact_div(a, b) * b == a


def test_inexact_division_names_both() -> None:
    with pytest.raises(IRError, match="B\\*S\\+1 is not divisible by S"):
        exact_div(B * S + 1, S)
    with pytest.raises(IRError, match="3 is not divisible by 0"):
        exact_div(3, 0)
    with pytest.raises(IRError, match="HETC-X001"):
        (2 * S) // 4


@given(polynomials(), polynomials(), bindings)
def test_substitution_before_is_evaluation_after(
    a: DimLike, b: DimLike, at: dict[str, int]
) -> None:
    assert evaluate(substitute(a, {"S": b}), at) == evaluate(a, {**at, "S": evaluate(b, at)})


@given(polynomials())
def test_text_round_trip(a: DimLike) -> None:
    assert parse_dim(str(a)) == a


def test_text_reads_as_people_write_it() -> None:
    assert str(2 * P + B * S - 1) == "B*S+2*P-1"
    assert str(-P + 1) == "-P+1"
    assert str(S * S) == "S*S"


@pytest.mark.parametrize("text", ["", "+", "2**S", "S S", "S+", "2S", "f32", "S*", "1.5", "true"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(IRError, match=r"HETC-X004"):
        parse_dim(text)


def test_a_constant_is_an_int() -> None:
    assert type(S - S + 3) is int
    assert type(product([])) is int
    assert type(exact_div(4 * S, S)) is int
    assert substitute(P + T, {"P": 3, "T": 1}) == 4


def test_rows_of_windows_follow_from_the_step() -> None:
    window, kept = symbol("W4"), symbol("K4")
    assert [evaluate(window, {"P": p, "T": 1}) for p in (0, 3, 4, 9)] == [0, 3, 4, 4]
    assert [evaluate(kept, {"P": p, "T": 2}) for p in (0, 1, 2, 9)] == [2, 3, 4, 4]
    assert [evaluate(kept, {"S": s}) for s in (1, 4, 7)] == [1, 4, 4]
    assert evaluate(window, {"W4": 2}) == 2
    assert capped_rows("W12") == 12
    assert capped_rows("W") is None


def test_a_size_without_a_value_is_an_error() -> None:
    with pytest.raises(IRError, match=r"HETC-X002.*B\*S needs a value for S"):
        evaluate(B * S, {"B": 1})


@pytest.mark.parametrize("name", ["", "1x", "a.b", "a-b", "bf16", "nan", "é"])
def test_symbols_are_words(name: str) -> None:
    with pytest.raises(IRError, match="HETC-X004"):
        symbol(name)


def test_symbols_of_a_size() -> None:
    assert symbols_of(B * S + P) == {"B", "S", "P"}
    assert symbols_of(3) == frozenset()
