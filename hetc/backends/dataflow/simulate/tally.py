"""What the engines count in a token, and the outcome that both give."""

from __future__ import annotations

from dataclasses import dataclass, fields

from hetc.backends.dataflow.simulate.timing import Timing


@dataclass
class Tally:
    """Cycles since the start, which only grow.

    Of each stage: from gate to end (`active`), of that without a tile from memory (`starved`), and
    of that without its producers' end or the link (`stalled`). Of each queue: `busy`, and waiting
    for launches, tokens or results (`order`). Of each flow: its queue waiting for its `credit`. Of
    each block: until it finished, since the turn before.
    """

    active: list[float]
    starved: list[float]
    stalled: list[float]
    busy: list[float]
    credit: list[float]
    order: list[float]
    blocks: list[float]
    link: list[float]

    @classmethod
    def zero(cls, timing: Timing) -> Tally:
        stages, queues = len(timing.stages), len(timing.queues)
        flows, blocks = len(timing.flows), len(timing.blocks)
        sizes = (stages, stages, stages, queues, flows, queues, blocks, 1)
        return cls(*([0.0] * size for size in sizes))

    def copy(self) -> Tally:
        return Tally(*(list(getattr(self, field.name)) for field in fields(self)))

    def add(self, later: Tally, earlier: Tally, times: int) -> None:
        """Count what passed between two moments so many times more."""
        for field in fields(self):
            mine = getattr(self, field.name)
            ends = zip(getattr(later, field.name), getattr(earlier, field.name), strict=True)
            mine[:] = [
                value + times * (end - start)
                for value, (end, start) in zip(mine, ends, strict=True)
            ]


@dataclass(frozen=True)
class Outcome:
    """The end of each token in cycles, what the last one took, and each flow's peak bytes held."""

    ends: tuple[float, ...]
    last: Tally
    peaks: tuple[int, ...]
