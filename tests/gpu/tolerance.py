"""How far bf16 may be from f32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Of the norm of what is compared.
TOLERANCE = 1e-2


def error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The norm of the difference, as a part of that of `expected`."""
    difference = found.astype(np.float64) - expected
    return float(np.linalg.norm(difference) / np.linalg.norm(expected))
