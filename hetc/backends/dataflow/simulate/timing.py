"""A plan in the form that the engines run: names are indices, bytes are cycles, steps are turns.

A *turn* is one `Execute` for one row group: the stages of one section that belong to one block, for
one iteration. A token is a list of turns, all tokens are alike, and equal turns are equal objects.
`unroll.py` makes this form of a plan.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class When(enum.Enum):
    """Which execution of a stage is waited for, as seen from a turn."""

    SAME = "in the same iteration"
    BEFORE = "in the iteration before, nothing in the first"
    LATEST = "the last one that stands before this turn in the program"


@dataclass(frozen=True)
class Wait:
    """Wait for a stage: to its end, or where `streamed` to its first result."""

    stage: int
    when: When
    streamed: bool = False


@dataclass(frozen=True)
class Room:
    """Wait for a consumer's end, `back` iterations ago, for room in a buffer of results."""

    buffer: str
    stage: int
    back: int


@dataclass(frozen=True)
class Flow:
    """A stream: `tiles` an iteration, of which the last may be smaller.

    `serve` is what a tile occupies its queue, `take` what it occupies its stage, in cycles. It is
    taken by `passes` executions one after the other before its room is free.
    `fits[j]` is how many tiles fit the stream's credits at once, counted back from tile j of an
    iteration and with it. `queue` is None for what stays in SRAM.
    """

    name: str
    stage: int
    queue: int | None
    bytes: int
    depth_bytes: int
    tiles: int
    tile_bytes: int
    last_bytes: int
    serve: float
    serve_last: float
    take: float
    take_last: float
    fits: tuple[int, ...]
    passes: int
    after: Wait | None


@dataclass(frozen=True)
class Stage:
    """A stage: what it waits for and what it takes, in cycles.

    `wire` is its time on the peer link, of which `wire_last` is left when its input is complete; 0
    where it sends nothing. It has the link to itself in turn, or always a `share` of it below 1.
    `latency` includes the exchange's. `reads` are the moves that bring its inputs from memory,
    `room` is what its results wait for.
    """

    name: str
    flows: tuple[int, ...]
    waits: tuple[Wait, ...]
    work: float
    latency: float
    wire: float
    wire_last: float
    share: float
    reads: tuple[int, ...]
    room: tuple[Room, ...]


@dataclass(frozen=True)
class Read:
    """A queue's work: all tiles of the next iteration of a flow that is not yet issued."""

    flow: int


@dataclass(frozen=True)
class Move:
    """A queue's work: bytes that are no stream. A write waits for the stage that makes them, a read
    for the move `source` that wrote them."""

    index: int
    name: str
    bytes: int
    serve: float
    latency: float
    wait: Wait | None
    source: int | None


@dataclass(frozen=True)
class Segment:
    """The stages that one `Execute` runs, in the order of the block, and in how many row groups."""

    block: int
    stages: tuple[int, ...]
    groups: int


class Gate(enum.Enum):
    """What a queue waits for before the first work of a turn."""

    NOTHING = "it goes on"
    BEGIN = "the turn begins"
    FINISH = "the turn before is finished"


@dataclass(frozen=True)
class Turn:
    """One execution of a segment for one row group, and what the queues do for it.

    `fence`: the turn begins so many cycles after everything before it has finished; None: it begins
    with the turn before. `launch` is paid by each of its stages. `opens` the first turn of a token.
    `first`: there is no iteration before.
    """

    segment: int
    group: int
    first: bool
    opens: bool
    gate: Gate
    fence: float | None
    launch: float
    work: tuple[tuple[Read | Move, ...], ...]


@dataclass(frozen=True)
class Repeat:
    """A loop in a token: iterations of `length` turns from `start`; those from 1 to `high` - 1 are
    equal."""

    start: int
    length: int
    high: int


@dataclass(frozen=True)
class Queue:
    """A tier's queue: its latency, and what one token moves through it."""

    tier: str
    latency: float
    bytes_read: int
    bytes_written: int


@dataclass(frozen=True)
class Timing:
    """All of it. `overhead` lies between the end of a token and the start of the next.

    `blocks` has the names, `segment_of` the segment of each stage, and `main` is the queue of the
    main memory, through which buffers pass.
    """

    blocks: tuple[str, ...]
    segment_of: tuple[int, ...]
    segments: tuple[Segment, ...]
    stages: tuple[Stage, ...]
    flows: tuple[Flow, ...]
    queues: tuple[Queue, ...]
    main: int
    moves: int
    turns: tuple[Turn, ...]
    repeats: tuple[Repeat, ...]
    overhead: float
