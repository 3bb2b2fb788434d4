"""Streams of the stub: queues of work that is done as late as CUDA allows, early, or at random."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Order = Literal["late", "early", "random"]


@dataclass
class Record:
    """One time that an event was recorded; `time` is in milliseconds."""

    stream: int
    done: bool = False
    time: float = 0.0


@dataclass
class Work:
    """Something in a queue: `run` does it, after `waits_for`; `touches` are addresses it uses."""

    run: Callable[[], None]
    touches: tuple[int, ...] = ()
    waits_for: Record | None = None
    milliseconds: float = 0.001


@dataclass
class Streams:
    """All streams by handle. Work of one stream stays in order; nothing else is promised."""

    order: Order = "late"
    seed: int = 0
    queues: dict[int, deque[Work]] = field(default_factory=dict)
    clock: float = 0.0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def push(self, stream: int, work: Work) -> None:
        """Add work, and do what the order has done by now."""
        self.queues[stream].append(work)
        if self.order == "early":
            while any(self._step(other) for other in self.queues):
                pass
        elif self.order == "random":
            for _ in range(self._random.randrange(4)):
                self._step(self._random.choice(list(self.queues)))

    def finish(self, stream: int) -> None:
        """Do all of a stream's work, and of others only what it waits for."""
        while self.queues[stream]:
            self._first(stream)

    def reach(self, record: Record) -> None:
        """Do work until an event has happened."""
        while not record.done:
            self._first(record.stream)

    def touching(self, inside: Callable[[int], bool]) -> bool:
        """Whether work that is not done yet uses an address."""
        pending = (work for queue in self.queues.values() for work in queue)
        return any(inside(address) for work in pending for address in work.touches)

    def _step(self, stream: int) -> bool:
        """Do the first work of a stream if it need not wait."""
        queue = self.queues[stream]
        if not queue or (queue[0].waits_for is not None and not queue[0].waits_for.done):
            return False
        self._do(queue.popleft())
        return True

    def _first(self, stream: int) -> None:
        """Do the first work of a stream, and before it what it waits for."""
        waits_for = self.queues[stream][0].waits_for
        if waits_for is not None:
            self.reach(waits_for)
        self._do(self.queues[stream].popleft())

    def _do(self, work: Work) -> None:
        self.clock += work.milliseconds
        work.run()
