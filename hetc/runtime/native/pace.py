"""How many threads a token takes: all, or one where the machine is busy with other things."""

from __future__ import annotations

import statistics
from collections import deque

_RECENT = 8
# The other choice is tried for a few tokens, seldom enough to cost little where it is worse.
_TRIED = 2
_BETWEEN = 96
_BETTER = 0.95


class Pace:
    """Tells how many of `units` threads to use next, from how long the calls before took.

    Where other processes want the cores too, threads wait for each other longer than they compute:
    on two busy cores one thread decodes almost half as fast again as two (docs/benchmarks). What is
    computed does not hang on it.
    """

    def __init__(self, units: int) -> None:
        self._choices = (units, 1)
        self._best = 0
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._trial: list[float] = []
        self._until_trial = _RECENT
        self._rows = 1

    @property
    def threads(self) -> int:
        """Threads for the next call."""
        return self._choices[1 - self._best if self._is_trial else self._best]

    @property
    def _is_trial(self) -> bool:
        return self._until_trial <= 0 and self._choices[0] != self._choices[1]

    def took(self, seconds: float, rows: int) -> None:
        """The call took so long, for so many tokens of all sequences together."""
        if rows != self._rows:
            # Of other work, what was measured says nothing.
            self._rows = rows
            self._recent.clear()
            self._trial.clear()
            self._until_trial = max(self._until_trial, _RECENT)
        if not self._is_trial:
            self._recent.append(seconds)
            self._until_trial -= 1
            return
        self._trial.append(seconds)
        if len(self._trial) == _TRIED:
            if min(self._trial) < _BETTER * statistics.median(self._recent):
                self._best = 1 - self._best
                self._recent.clear()
                self._recent.extend(self._trial)
            self._trial.clear()
            self._until_trial = _BETWEEN
