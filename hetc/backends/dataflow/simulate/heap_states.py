"""What the event heap knows of a stage, a queue and a link at one time."""

from __future__ import annotations

from collections import deque


class StageState:
    """The present execution of a stage, or the next one while it is not `open`: `current` counts
    those that have let go of its units, `ended` those whose last result is out."""

    def __init__(self) -> None:
        self.opened = self.firsts = self.current = self.ended = 0
        self.open = False
        self.ready = False
        self.taking = False
        self.gate = 0.0
        self.gates: deque[float] = deque()
        self.last_end = 0.0
        # When it last began to wait, and for an exchange when its input was complete.
        self.since = 0.0
        self.complete = 0.0


class QueueState:
    """Where a queue stands: the turn and the entry of its work, and whether it serves or waits."""

    def __init__(self) -> None:
        self.turn = self.entry = 0
        self.busy = False
        # Whether nothing but credits keeps the entry, and since when the queue waits.
        self.gated = False
        self.since = 0.0


class LinkState:
    """The peer link, or a stage's share of it: its exchanges in order, and the one it serves."""

    def __init__(self) -> None:
        self.exchanges: list[tuple[int, int]] = []
        self.sent = 0
        self.sending = False
        self.since: float | None = None
