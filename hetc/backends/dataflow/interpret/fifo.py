"""FIFOs: what is on its way from memory to a stage, in bytes, with credits."""

from __future__ import annotations

from collections import deque

import numpy as np

from hetc.errors import PlanError
from hetc.ir.types import Array

Position = tuple[int, int, int]
"""A place in the program: token, step, iteration of the step."""


class Fifo:
    """The bytes u8[sockets, n] of a stream that are fetched and not taken yet.

    `credits` bytes fit; `taken` counts what its stage took in all. Each part knows the turn that it
    was fetched for.
    """

    def __init__(self, name: str, sockets: int, credits: int) -> None:
        self.credits, self.level, self.taken = credits, 0, 0
        self._name, self._sockets = name, sockets
        self._parts: deque[tuple[Position, Array]] = deque()

    def has_room(self, nbytes: int) -> bool:
        return self.level + nbytes <= self.credits

    def push(self, part: Array, turn: Position) -> None:
        self._parts.append((turn, part))
        self.level += part.shape[1]

    def pop(self, nbytes: int, turn: Position) -> Array:
        """The first `nbytes`, which must be there.

        Raises PlanError (HETC-L313) where they were fetched for another turn.
        """
        self.level -= nbytes
        self.taken += nbytes
        if self._parts and self._parts[0][1].shape[1] == nbytes:
            return self._front(turn)
        found = np.empty((self._sockets, nbytes), np.uint8)
        filled = 0
        while filled < nbytes:
            part = self._front(turn)
            used = min(part.shape[1], nbytes - filled)
            found[:, filled : filled + used] = part[:, :used]
            if used < part.shape[1]:
                self._parts.appendleft((turn, part[:, used:]))
            filled += used
        return found

    def peek(self, first: int, nbytes: int, turn: Position) -> Array:
        """A copy of `nbytes` from byte `first` on, which must be there and stay there."""
        found = np.empty((self._sockets, nbytes), np.uint8)
        begin = 0
        for meant, part in self._parts:
            low, high = max(first, begin), min(first + nbytes, begin + part.shape[1])
            if low < high:
                self._require(meant, turn)
                found[:, low - first : high - first] = part[:, low - begin : high - begin]
            begin += part.shape[1]
        return found

    def _front(self, turn: Position) -> Array:
        meant, part = self._parts.popleft()
        self._require(meant, turn)
        return part

    def _require(self, meant: Position, turn: Position) -> None:
        if meant != turn:
            raise PlanError(
                "HETC-L313",
                "a stage takes what was fetched for another turn",
                at=self._name,
                expected="token {}, step {}, iteration {}".format(*turn),
                found="token {}, step {}, iteration {}".format(*meant),
                do="issue each stream once an iteration",
            )
