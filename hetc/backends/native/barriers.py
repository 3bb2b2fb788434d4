"""Where threads must wait: before a stage that another thread's work could still disturb."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Access:
    """The buffers that a stage shares with other threads: what it reads and what it writes."""

    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()


@dataclass
class _Open:
    """What was read and written since the threads last waited for each other."""

    read: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)

    def copy(self) -> _Open:
        return _Open(set(self.read), set(self.written))


def place_barriers(blocks: Sequence[tuple[int, Sequence[Access]]]) -> list[list[bool]]:
    """For every stage of every block whether a barrier stands before it.

    A block is (times, stages): it may be a loop. A stage waits where it reads what was written, or
    writes what was read or written, since the last barrier.
    """
    open = _Open()
    found = []
    for times, stages in blocks:
        if times > 1:
            # The first stages of an iteration meet what the last ones of the one before left open.
            # A barrier before a stage only closes more, so that one turn finds all there is.
            after = open.copy()
            _walk(stages, after)
            open.read |= after.read
            open.written |= after.written
        found.append(_walk(stages, open))
    return found


def _walk(stages: Sequence[Access], open: _Open) -> list[bool]:
    waits = []
    for stage in stages:
        waits.append(bool(stage.reads & open.written or stage.writes & (open.read | open.written)))
        if waits[-1]:
            open.read.clear()
            open.written.clear()
        open.read |= stage.reads
        open.written |= stage.writes
    return waits
