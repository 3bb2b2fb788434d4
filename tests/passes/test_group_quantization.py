"""Matrices in groups of integers: what is stored is near what was there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetc.ir.types import Array
from hetc.passes.group_quantization import int4_groups, int8_groups

RNG = np.random.default_rng(3)


def widened(steps: Array, scale: Array, shift: Array | None = None) -> Array:
    """Written out element by element."""
    group = steps.shape[-1] // scale.shape[-1]
    wide = np.empty(steps.shape, np.float32)
    for place in np.ndindex(*steps.shape):
        at = (*place[:-1], place[-1] // group)
        wide[place] = float(steps[place]) * float(scale[at])
        wide[place] += 0.0 if shift is None else float(shift[at])
    return wide


def halves(packed: Array) -> Array:
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)


@settings(max_examples=25)
@given(st.integers(1, 5), st.integers(1, 4), st.sampled_from([16, 32]), st.floats(1e-3, 1e3))
def test_int8_is_off_by_half_a_step_at_most(
    rows: int, groups: int, group: int, size: float
) -> None:
    matrix = (RNG.normal(size=(rows, groups * group)) * size).astype(np.float32)
    steps, scale = int8_groups(matrix, group)
    assert steps.dtype == np.int8
    assert scale.dtype == np.float16
    off = np.abs(widened(steps, scale) - matrix).reshape(rows, groups, group)
    # Scales are rounded to f16: the largest of a group may be that much off besides.
    allowed = 0.5 * scale + 127 * scale * 2.0**-11
    assert (off <= allowed[..., None] * 1.001).all()


@settings(max_examples=25)
@given(st.integers(1, 5), st.integers(1, 4), st.sampled_from([16, 32]), st.floats(1e-2, 1e2))
def test_int4_is_no_worse_than_the_range_of_a_group(
    rows: int, groups: int, group: int, size: float
) -> None:
    matrix = (RNG.normal(size=(rows, groups * group)) * size).astype(np.float32)
    packed, scale, shift = int4_groups(matrix, group)
    assert packed.dtype == np.uint8
    assert packed.shape == (rows, groups * group // 2)
    found = widened(halves(packed), scale, shift)
    parts = matrix.reshape(rows, groups, group)
    low = parts.min(-1).astype(np.float16)
    step = ((parts.max(-1) - parts.min(-1)) / 15).astype(np.float16)
    plain = np.rint((parts - low[..., None]) / step[..., None]).clip(0, 15)
    weight = parts**2 + (parts**2).mean(-1, keepdims=True)
    plainly = weight * (plain * step[..., None] + low[..., None] - parts) ** 2
    ours = weight * (found.reshape(parts.shape) - parts) ** 2
    assert (ours.sum(-1) <= plainly.sum(-1) * 1.001).all()


def test_what_four_bits_can_say_is_kept() -> None:
    """Q4_1 of llama.cpp is of this form: 16 steps of one scale from one minimum."""
    steps = RNG.integers(0, 16, (6, 64))
    steps[:, [0, 1, 32, 33]] = 0, 15, 0, 15
    scale = RNG.uniform(0.01, 1, (6, 2)).astype(np.float16)
    shift = RNG.uniform(-2, 2, (6, 2)).astype(np.float16)
    matrix = widened(steps, scale, shift)
    packed, found_scale, found_shift = int4_groups(matrix, 32)
    np.testing.assert_array_equal(halves(packed), steps)
    np.testing.assert_allclose(widened(steps, found_scale, found_shift), matrix, atol=2e-3)


@pytest.mark.parametrize("value", [0.0, 3.0, -1e-9])
def test_groups_of_one_value(value: float) -> None:
    """Nothing to divide by, or too small for f16."""
    matrix = np.full((2, 32), value, np.float32)
    steps, scale = int8_groups(matrix, 32)
    packed, *numbers = int4_groups(matrix, 32)
    for found in (widened(steps, scale), widened(halves(packed), *numbers)):
        np.testing.assert_allclose(found, value, rtol=0.01, atol=1e-7)


def test_what_is_too_large_for_a_scale_stays_finite() -> None:
    matrix = np.full((1, 32), 1e9, np.float32)
    steps, scale = int8_groups(matrix, 32)
    assert widened(steps, scale).max() == 127 * 65504
    assert np.isfinite(
        widened(halves(int4_groups(matrix, 32)[0]), *int4_groups(matrix, 32)[1:])
    ).all()
