"""Matrices in groups of small integers: a number of steps, and a scale for each group.

Numerics only; `quantize_weights.py` puts them into a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count

import numpy as np

from hetc.ir.types import Array

_ROWS = 64  # rows at a time, so that what is computed of them stays in a cache
# Ends of a group's range, as parts of it, that are tried: outliers may be cut off.
_ENDS = (1.0, 0.95, 0.9, 0.85, 0.8)
_STEPS4 = 15


def int8_groups(matrix: Array, group: int) -> tuple[Array, Array]:
    """`matrix f32[..., K]` as i8[..., K] and scales f16[..., K/group]: zero is zero, and the
    largest of a group is 127 steps."""

    def convert(rows: Array) -> tuple[Array, ...]:
        scale = np.abs(rows).max(-1) / 127
        scale = _f16(scale)
        return _steps(rows, scale, np.zeros_like(scale), -127, 127).astype(np.int8), scale

    numbers, scale = _by_rows(convert, matrix, group)
    return numbers.reshape(matrix.shape), scale


def int4_groups(matrix: Array, group: int) -> tuple[Array, Array, Array]:
    """`matrix f32[..., K]` as steps 0 to 15, two in a byte, u8[..., K/2], with scale and shift
    f16[..., K/group]: an element is about step * scale + shift.

    Scale and shift of a group are those with the least sum of squared errors, weighted by the
    elements' squares, of several ranges and the linear fit to each one's steps (as the k-quants of
    llama.cpp weight and fit).
    """
    numbers, scale, shift = _by_rows(_search, matrix, group)
    flat = numbers.reshape(*matrix.shape[:-1], matrix.shape[-1] // 2, 2)
    return flat[..., 0] | flat[..., 1] << 4, scale, shift


def _by_rows(
    convert: Callable[[Array], tuple[Array, ...]], matrix: Array, group: int
) -> tuple[Array, ...]:
    """`convert` of [rows, groups, group] parts, on all cores, put together again."""
    groups = matrix.shape[-1] // group
    flat = matrix.reshape(-1, groups, group)
    parts = [flat[first : first + _ROWS] for first in range(0, len(flat), _ROWS)]
    with ThreadPoolExecutor(cpu_count() or 1) as pool:
        done = list(pool.map(convert, parts))
    steps, *numbers = (np.concatenate(made) for made in zip(*done, strict=True))
    return steps, *(part.reshape(*matrix.shape[:-1], groups) for part in numbers)


def _search(rows: Array) -> tuple[Array, ...]:
    low, high = rows.min(-1), rows.max(-1)
    weight = rows * rows + np.square(rows).mean(-1, keepdims=True)
    best = np.full(low.shape, np.inf, np.float32)
    scale, shift = np.zeros_like(low), np.zeros_like(low)
    for end in _ENDS:
        middle, half = (low + high) / 2, (high - low) / 2 * end
        tried = _f16(2 * half / _STEPS4), _f16(middle - half)
        for fitted in (tried, _fit(rows, weight, _steps(rows, *tried, 0, _STEPS4))):
            steps = _steps(rows, *fitted, 0, _STEPS4)
            off = rows - steps * _wide(fitted[0]) - _wide(fitted[1])
            error = np.einsum("...g,...g,...g->...", off, off, weight)
            better = error < best
            best = np.where(better, error, best)
            scale, shift = np.where(better, fitted[0], scale), np.where(better, fitted[1], shift)
    scale, shift = scale.astype(np.float16), shift.astype(np.float16)
    return _steps(rows, scale, shift, 0, _STEPS4).astype(np.uint8), scale, shift


def _fit(rows: Array, weight: Array, steps: Array) -> tuple[Array, Array]:
    """Scale and shift of the weighted least squares line through (steps, rows)."""
    total = np.maximum(weight.sum(-1), np.finfo(np.float32).tiny)
    x, y = (np.einsum("...g,...g->...", weight, part) / total for part in (steps, rows))
    apart = steps - x[..., None]
    spread = np.einsum("...g,...g,...g->...", weight, apart, apart)
    common = np.einsum("...g,...g,...g->...", weight, apart, rows)
    slope = np.divide(common, spread, out=np.zeros_like(common), where=spread > 0)
    return _f16(slope), _f16(y - _wide(_f16(slope))[..., 0] * x)


def _steps(rows: Array, scale: Array, shift: Array, least: int, most: int) -> Array:
    """The nearest step of each element; step 0 where a group has no scale."""
    inverse = np.divide(1, _wide(scale), out=np.zeros_like(_wide(scale)), where=_wide(scale) != 0)
    steps: Array = np.clip(np.rint((rows - _wide(shift)) * inverse), least, most)
    return steps


def _f16(numbers: Array) -> Array:
    """Numbers as they can be stored: what is too large for f16 is its largest."""
    return np.clip(numbers, -65504, 65504).astype(np.float16)


def _wide(numbers: Array) -> Array:
    return numbers.astype(np.float32)[..., None]
