"""How far bf16 may be from f32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Of the norm of what is compared.
TOLERANCE = 1e-2
# Thirty layers of a real model add up more rounding than that: PyTorch's own bf16 is 0.3 to 15 %
# from f32 on the prompts of SmolLM2. There, so many times as far as PyTorch is; sums in another
# order round elsewhere, so that one of twenty-five numbers is 1.12 times as far.
OF_PYTORCH = 1.5


def error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The norm of the difference, as a part of that of `expected`."""
    difference = found.astype(np.float64) - expected
    return float(np.linalg.norm(difference) / np.linalg.norm(expected))
