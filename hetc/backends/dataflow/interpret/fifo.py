"""FIFOs: what is on its way from memory to a stage, in bytes, with credits."""

from __future__ import annotations

from collections import deque

import numpy as np

from hetc.ir.types import Array


class Fifo:
    """The bytes u8[sockets, n] of one stream that are fetched and not taken yet.

    `credits` bytes fit; `taken` counts what its stage took in all.
    """

    def __init__(self, sockets: int, credits: int) -> None:
        self.credits, self.level, self.taken = credits, 0, 0
        self._sockets = sockets
        self._parts: deque[Array] = deque()

    def has_room(self, nbytes: int) -> bool:
        return self.level + nbytes <= self.credits

    def push(self, part: Array) -> None:
        self._parts.append(part)
        self.level += part.shape[1]

    def pop(self, nbytes: int) -> Array:
        """The first `nbytes`, which must be there."""
        self.level -= nbytes
        self.taken += nbytes
        if self._parts and self._parts[0].shape[1] == nbytes:
            return self._parts.popleft()
        found = np.empty((self._sockets, nbytes), np.uint8)
        filled = 0
        while filled < nbytes:
            part = self._parts.popleft()
            used = min(part.shape[1], nbytes - filled)
            found[:, filled : filled + used] = part[:, :used]
            if used < part.shape[1]:
                self._parts.appendleft(part[:, used:])
            filled += used
        return found
