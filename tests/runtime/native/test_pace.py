"""The pace finds the faster number of threads, and finds it again when that changes."""

from __future__ import annotations

import pytest

from hetc.runtime.native.pace import Pace


def calls(pace: Pace, count: int, seconds: dict[int, float], rows: int = 1) -> list[int]:
    """The threads of so many calls of `rows` that take `seconds` by the number of threads."""
    found = []
    for _ in range(count):
        found.append(pace.threads)
        pace.took(seconds[found[-1]], rows)
    return found


def test_all_threads_while_they_are_faster() -> None:
    found = calls(Pace(4), 1000, {4: 1.0, 1: 3.0})
    assert found[:8] == [4] * 8
    assert 0 < found.count(1) <= 24


def test_one_where_the_others_only_wait() -> None:
    found = calls(Pace(2), 200, {2: 1.4, 1: 1.0})
    assert found[:8] == [2] * 8
    assert found.count(2) <= 14


def test_all_again_when_the_machine_is_free() -> None:
    pace = Pace(2)
    calls(pace, 200, {2: 1.4, 1: 1.0})
    assert calls(pace, 300, {2: 0.6, 1: 1.0})[-50:].count(2) >= 48


@pytest.mark.parametrize("seconds", [{2: 1.0, 1: 1.0}, {2: 1.0, 1: 0.97}])
def test_a_tie_changes_nothing(seconds: dict[int, float]) -> None:
    assert calls(Pace(2), 500, seconds).count(1) <= 12


def test_one_core_has_no_choice() -> None:
    assert set(calls(Pace(1), 300, {1: 1.0})) == {1}


@pytest.mark.parametrize("before", range(1, 12))
def test_fewer_rows_are_no_sign_that_one_is_faster(before: int) -> None:
    """A batch of 16 takes four times as long as one sequence, by however many threads."""
    pace = Pace(2)
    calls(pace, before, {2: 4.0, 1: 6.0}, rows=16)
    assert calls(pace, 100, {2: 1.0, 1: 1.5}).count(1) <= 4
