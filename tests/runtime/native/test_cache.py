"""Rows of a cache, all states at once: what each state has by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hetc.bundle.dtypes import BY_NAME
from hetc.bundle.native import NativeLayout, StateLayout
from hetc.runtime.native.cache import Cache

GROUPS, WIDTH, LAYERS, TOKENS = 2, 10, 3, 70


def layout(element: str, stored: str, distances: list[int], width: int) -> NativeLayout:
    """Keys and values of three layers that begin so many bytes a token apart, `width` numbers of
    each row their own; and a state without positions."""
    states, start = [], 0
    for layer, distance in enumerate(distances):
        for role, first in (("keys", 0), ("values", distance // 2)):
            offset = f"{start + first}*B*C"
            sizes, at = (GROUPS, width), min(2, WIDTH - width)
            states.append(
                StateLayout(
                    f"{layer}.{role}", role, offset, sizes, at, WIDTH, element, stored, None
                )
            )
        start += distance
    whole = StateLayout("conv", "whole", f"{start}*B*C", (4,), 0, 4, "f32", "f32", None)
    return NativeLayout(1, 0, f"{start}*B*C + 16*B", {}, (*states, whole), ())


@given(
    st.sampled_from([("f32", "f32"), ("bf16", "bf16"), ("f16", "f16"), ("f32", "i8")]),
    st.sampled_from([[256] * LAYERS, [256, 320, 256], [256]]),
    st.sampled_from([WIDTH, WIDTH - 3]),
    st.integers(1, 3),
    st.integers(1, TOKENS),
    st.data(),
)
def test_rows_are_those_that_were_written(
    types: tuple[str, str],
    distances: list[int],
    width: int,
    batch: int,
    tokens: int,
    data: st.DataObject,
) -> None:
    made = layout(*types, distances, width)
    cache = Cache(made, batch, TOKENS)
    dtype = BY_NAME[types[0]].numpy
    # Whole numbers of which one has the largest value fit in 8 bits with a scale.
    random = np.random.default_rng(3)
    wrote: dict[str, NDArray[Any]] = {}
    for state in made.states[:-1]:
        numbers = random.integers(-127, 127, (batch, GROUPS, tokens, width))
        numbers[..., 0] = 127
        wrote[state.name] = numbers.astype(dtype)
        cache.write(state, tokens, wrote[state.name])
    position = data.draw(st.integers(0, tokens - 1))
    found = cache.rows(position)
    for state, rows in zip(made.states[:-1], found, strict=True):
        np.testing.assert_array_equal(cache.read(state, tokens), wrote[state.name])
        np.testing.assert_array_equal(rows, wrote[state.name][:, :, position])
        assert rows.dtype == dtype


@pytest.mark.parametrize("batch", [1, 2])
def test_rows_are_copies(batch: int) -> None:
    made = layout("f32", "f32", [256], WIDTH)
    cache = Cache(made, batch, TOKENS)
    for row in cache.rows(5):
        row[...] = 7
    assert not cache.memory.any()
