"""Barriers stand where one thread's work could meet another's, and nowhere else."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetc.backends.native.barriers import Access, place_barriers


def access(reads: str = "", writes: str = "") -> Access:
    return Access(frozenset(reads), frozenset(writes))


@pytest.mark.parametrize(
    ("stages", "waits"),
    [
        ([access(writes="a"), access(reads="a")], [False, True]),
        ([access(reads="a"), access(writes="a")], [False, True]),
        ([access(writes="a"), access(writes="a")], [False, True]),
        ([access(reads="a"), access(reads="a")], [False, False]),
        ([access(writes="a"), access(writes="b"), access(reads="ab")], [False, False, True]),
        ([access(writes="a"), access(reads="a"), access(reads="a")], [False, True, False]),
        ([access(), access()], [False, False]),
    ],
)
def test_a_straight_block(stages: list[Access], waits: list[bool]) -> None:
    assert place_barriers([(1, stages)]) == [waits]


def test_an_iteration_waits_for_the_one_before() -> None:
    stages = [access(reads="x", writes="a"), access(reads="a", writes="x")]
    assert place_barriers([(1, stages)]) == [[False, True]]
    assert place_barriers([(2, stages)]) == [[True, True]]


def test_a_block_waits_for_the_one_before() -> None:
    blocks = [(1, [access(writes="a")]), (1, [access(reads="a")])]
    assert place_barriers(blocks) == [[False], [True]]


names = st.frozensets(st.sampled_from("abc"), max_size=2)
stages = st.lists(st.builds(Access, names, names), min_size=1, max_size=4)


@given(st.lists(st.tuples(st.integers(1, 3), stages), min_size=1, max_size=3))
def test_no_two_stages_that_disturb_each_other_lack_a_barrier(
    blocks: list[tuple[int, list[Access]]],
) -> None:
    waits = place_barriers(blocks)
    run = [
        (stage, wait)
        for (times, stages), found in zip(blocks, waits, strict=True)
        for _ in range(times)
        for stage, wait in zip(stages, found, strict=True)
    ]
    for first, second in itertools.combinations(range(len(run)), 2):
        one, other = run[first][0], run[second][0]
        disturb = one.writes & (other.reads | other.writes) or one.reads & other.writes
        between = any(wait for _, wait in run[first + 1 : second + 1])
        assert between or not disturb
