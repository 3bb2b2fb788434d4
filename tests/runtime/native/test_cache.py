"""Rows of a cache, all states at once: what each state has by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetc.bundle.dtypes import BY_NAME
from hetc.bundle.native import NativeLayout, StateLayout
from hetc.runtime.native.cache import Cache

GROUPS, WIDTH, LAYERS, TOKENS = 2, 10, 3, 70


def layout(element: str, stored: str, distances: list[int]) -> NativeLayout:
    """Keys and values of three layers that begin so many bytes a token apart, and a state without
    positions."""
    states, start = [], 0
    for layer, distance in enumerate(distances):
        for role, first in (("keys", 0), ("values", distance // 2)):
            offset = f"{start + first}*B*C"
            sizes = (GROUPS, WIDTH - 3)
            states.append(
                StateLayout(f"{layer}.{role}", role, offset, sizes, 2, WIDTH, element, stored, None)
            )
        start += distance
    whole = StateLayout("conv", "whole", f"{start}*B*C", (4,), 0, 4, "f32", "f32", None)
    return NativeLayout(1, 0, f"{start}*B*C + 16*B", {}, (*states, whole), ())


@given(
    st.sampled_from([("f32", "f32"), ("bf16", "bf16"), ("f16", "f16"), ("f32", "i8")]),
    st.sampled_from([[256] * LAYERS, [256, 320, 256], [256]]),
    st.integers(1, 3),
    st.integers(0, TOKENS - 1),
)
def test_rows_are_those_of_each_state(
    types: tuple[str, str], distances: list[int], batch: int, position: int
) -> None:
    made = layout(*types, distances)
    cache = Cache(made, batch, TOKENS)
    random = np.random.default_rng(3)
    with_rows = [state for state in made.states if state.role != "whole"]
    for state in with_rows:
        numbers = random.standard_normal((batch, GROUPS, TOKENS, WIDTH - 3))
        cache.write(state, TOKENS, numbers.astype(BY_NAME[types[0]].numpy))
    found = cache.rows(position)
    assert len(found) == len(with_rows)
    for state, rows in zip(with_rows, found, strict=True):
        np.testing.assert_array_equal(rows, cache.read(state, TOKENS)[:, :, position])
        assert rows.dtype == BY_NAME[types[0]].numpy


@pytest.mark.parametrize("batch", [1, 2])
def test_rows_are_copies(batch: int) -> None:
    made = layout("f32", "f32", [256])
    cache = Cache(made, batch, TOKENS)
    for row in cache.rows(5):
        row[...] = 7
    assert not cache.memory.any()
