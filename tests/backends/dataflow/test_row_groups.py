"""Which blocks sequences may pass in groups, and lanes so that no stage holds them up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetc.backends.dataflow.blocks import Run
from hetc.backends.dataflow.row_groups import balance, group_counts, why_whole
from hetc.ir.text import parse


def reason(type: str, times: int = 2) -> str | None:
    """Why the sequences of a layer of one op, called so often, pass together."""
    layer = parse(f"graph @layer(%x: {type}) -> ({type}) {{ %0 = neg %x return %0 }}")
    return why_whole(Run("b0", layer, layer.ops, layer.ops * times, {}, {}, (), frozenset()), [])


def test_batches_are_halved() -> None:
    assert group_counts(1) == ()
    assert group_counts(6) == (2,)
    assert group_counts(16) == (2, 4, 8, 16)
    assert group_counts(64) == (2, 4, 8, 16)


@pytest.mark.parametrize("type", ["f32[B,8]", "f32[B*T,8]", "f32[8,8]", "f32[T]"])
def test_sequences_along_the_first_axis_pass_in_groups(type: str) -> None:
    assert reason(type) is None


@pytest.mark.parametrize("type", ["f32[8,B]", "f32[T,B,8]", "f32[B+1,8]"])
def test_others_do_not(type: str) -> None:
    assert reason(type) == "sequences are not along the first axis of everything"


def test_what_does_not_repeat_has_nothing_to_overlap() -> None:
    assert reason("f32[B,8]", times=1) == "it does not repeat"


STAGES = st.lists(
    st.tuples(st.floats(1, 1e6), st.integers(1, 20), st.integers(0, 200)), min_size=1, max_size=8
)


@given(STAGES, st.integers(1, 400))
def test_no_other_share_has_a_shorter_interval(
    stages: list[tuple[float, int, int]], lanes: int
) -> None:
    works = [work for work, _, _ in stages]
    least = [low for _, low, _ in stages]
    most = [low + more for _, low, more in stages]
    found = balance(works, least, most, lanes)
    assert all(low <= got <= high for low, got, high in zip(least, found, most, strict=True))
    if sum(least) > lanes:
        assert list(found) == least
        return
    assert sum(found) <= lanes
    interval = max(work / got for work, got in zip(works, found, strict=True))
    slowest = [
        (got, high)
        for work, got, high in zip(works, found, most, strict=True)
        if work / got >= interval * (1 - 1e-9)
    ]
    # A shorter one takes a lane more in each stage that sets it: there is none, or none is needed.
    assert (
        sum(found) + len(slowest) > lanes
        or any(got == high for got, high in slowest)
        or interval <= 1
    )
