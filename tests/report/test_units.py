"""Numbers in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetc.report.units import (
    amount,
    binary_bytes,
    count,
    duration,
    energy,
    percent,
    plural,
    significant,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234.5, "1230"), (999.6, "1000"), (0.012345, "0.0123"), (1.0, "1"), (92.0, "92")],
)
def test_significant(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999.4, "999 B"), (999.6, "1 kB"), (269e6, "269 MB"), (1.1e12, "1.1 TB")],
)
def test_amount(value: float, text: str) -> None:
    assert amount(value, "B") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (2.5, "2.5 s"),
        (6e-4, "600 µs"),
        (9.999e-4, "1 ms"),
        (3e-9, "3 ns"),
        (3e-10, "0.3 ns"),
        (3e-12, "<0.1 ns"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_counts_and_shares() -> None:
    assert [count(12), count(134.5e6), count(8.03e9)] == ["12", "134.5 M", "8.0 B"]
    assert binary_bytes(23040) == "22.5 KiB"
    assert [percent(0.0), percent(0.001), percent(0.914)] == ["0 %", "<1 %", "91 %"]
    assert [plural(1, "op"), plural(2048, "op")] == ["1 op", "2,048 ops"]


@given(st.floats(1e-9, 1e20))
def test_an_amount_is_within_rounding(value: float) -> None:
    number, _, unit = amount(value, "B").partition(" ")
    scale = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}[unit[:-1]]
    assert float(number) * scale == pytest.approx(value, rel=6e-3)


@pytest.mark.parametrize(
    ("joules", "text"),
    [(5.17e-5, "51.7 µJ"), (0.0205, "20.5 mJ"), (0.99999, "1 J"), (1240, "1.24 kJ"), (0, "0 nJ")],
)
def test_energies(joules: float, text: str) -> None:
    assert energy(joules) == text
