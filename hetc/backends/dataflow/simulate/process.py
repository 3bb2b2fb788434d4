"""What the max-plus engine is made of: processes, and the times that they make known.

Every arbiter serves a static order, so the time of an event is a maximum of sums of earlier ones,
in the algebra (max, +) (Baccelli, Cohen, Olsder, Quadrat: Synchronization and Linearity, 1992). No
order of events has to be found: each queue, stage and link is a `Process` that appends the times
of its own events to lists, and asks for an entry of another's list when it needs one. A process
that is asked, directly or not, for what it waits for itself stands still: HETC-L104.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from hetc.errors import BackendError


class Times(list[float]):
    """When the events of one kind happen, in order; `maker` appends them."""

    __slots__ = ("maker",)

    def __init__(self, maker: Process) -> None:
        super().__init__()
        self.maker = maker


Want = tuple[Times, int]


class Process(ABC):
    """A queue, a stage, the link, or the program: something that does one thing after another."""

    name: str

    @abstractmethod
    def step(self) -> Want | None:
        """Do the next thing; or, where it cannot, the entry that it waits for."""


def know(times: Times, index: int) -> None:
    """Run what is needed until `times[index]` exists."""
    stack: list[Want] = [(times, index)]
    while stack:
        times, index = stack[-1]
        want = None
        while len(times) <= index and want is None:
            want = times.maker.step()
        if want is None or len(times) > index:
            stack.pop()
            continue
        chain = [asked.maker for asked, _ in stack]
        if want[0].maker in chain:
            circle = [*chain[chain.index(want[0].maker) :], want[0].maker]
            raise BackendError(
                "HETC-L104",
                "the plan stands still: each waits for the next",
                at=circle[0].name,
                found=" -> ".join(process.name for process in circle),
                do="issue streams in the order in which stages take them, or give more credits",
            )
        stack.append(want)
