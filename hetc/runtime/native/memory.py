"""Memory for generated code: aligned, zeroed, and given back with its array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64


def aligned_bytes(count: int) -> NDArray[Any]:
    """`count` zeroed bytes that begin at a cache line."""
    raw = np.zeros(count + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + count]


class Scratch:
    """Memory that grows with what is asked of it."""

    def __init__(self) -> None:
        self._held = aligned_bytes(0)

    def address(self, count: int) -> int:
        """Where `count` bytes are, for now."""
        if self._held.nbytes < count:
            self._held = aligned_bytes(count)
        return self._held.ctypes.data

    def zeroed(self, count: int) -> int:
        """Where `count` bytes of zeros are, for now."""
        address = self.address(count)
        self._held[:count] = 0
        return address
