"""What a simulation says of one token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["maxplus", "heap", "analytic"]


@dataclass(frozen=True)
class StageUse:
    """Where a stage's cycles of a token go; the four are all of them.

    `starved`: no tile has come from memory. `stalled`: a producer that it takes results from has
    not ended, or the link serves another exchange. `idle`: its inputs are not there, or it is done.
    """

    stage: str
    block: str
    busy_cycles: float
    stalled_cycles: float
    starved_cycles: float
    idle_cycles: float


@dataclass(frozen=True)
class StreamUse:
    """A stream's peak bytes issued and not yet taken, of its credits, and how long its queue waited
    for them in a token."""

    stream: str
    peak_bytes: int
    depth_bytes: int
    credit_cycles: float


@dataclass(frozen=True)
class QueueUse:
    """A memory tier in a token. While idle its queue waits for credits, or for launches, tokens and
    results (`order`); in a steady state these two are all of it."""

    tier: str
    bytes_read: int
    bytes_written: int
    busy_cycles: float
    idle_cycles: float
    credit_cycles: float
    order_cycles: float


@dataclass(frozen=True)
class BlockUse:
    """A block in a token: what it adds to the time, and of one iteration the busiest queue's time
    and the longest chain of dependences, with its stages in order."""

    block: str
    iterations: int
    cycles: float
    memory_cycles: float
    chain_cycles: float
    chain: tuple[str, ...]


@dataclass(frozen=True)
class Bottleneck:
    """What bounds a token, and why in words."""

    name: str
    why: str


@dataclass(frozen=True)
class Simulated:
    """One token of one socket, simulated and not calibrated.

    `mbu` is the bytes read from the main memory over time and peak bandwidth, `mbu_bound` what its
    efficiency allows. `analytic_us` is the closed form's answer. `energy_j` is an estimate: the
    socket's power times the time of a token; None where its target does not say the power.
    """

    mode: Mode
    tokens: int
    cycles: float
    tpot_us: float
    tokens_per_s: float
    bytes_read: int
    mbu: float
    mbu_bound: float
    bottleneck: Bottleneck
    stages: tuple[StageUse, ...]
    streams: tuple[StreamUse, ...]
    queues: tuple[QueueUse, ...]
    link_busy_cycles: float
    blocks: tuple[BlockUse, ...]
    analytic_us: float
    energy_j: float | None

    @property
    def analytic_difference(self) -> float:
        """The closed form over this result, less one: negative where it is too fast."""
        return self.analytic_us / self.tpot_us - 1
