"""Random operands of kernels, and how far results may be from those of f32."""

from __future__ import annotations

import numpy as np

from hetc.ir.types import DTYPES, Array

# One rounding of the result and, of halves, of what is multiplied.
_ERRORS = {"f32": 5e-5, "f16": 4e-3, "bf16": 3e-2}


def normal(draw: np.random.Generator, shape: tuple[int, ...], element: str) -> Array:
    """Normally distributed numbers of `element`."""
    numbers: Array = draw.normal(size=shape).astype(np.float32)
    return numbers.astype(DTYPES[element].numpy)


def assert_close(found: Array, expected: Array, element: str) -> None:
    """Fail unless `found` is `expected` but for rounding in `element`, relative to the largest."""
    assert found.shape == expected.shape
    wide, true = found.astype(np.float32), expected.astype(np.float32)
    allowed = _ERRORS[element] * max(1.0, float(np.abs(true).max(initial=0.0)))
    error = np.abs(wide - true)
    # A NaN fails too.
    assert (error <= allowed).all(), f"off by {error.max()}, at most {allowed} is allowed"
