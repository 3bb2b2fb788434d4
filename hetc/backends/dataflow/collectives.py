"""Exchanges between the sockets of a tensor-parallel group: which algorithm, and what it takes."""

from __future__ import annotations

from hetc.backends.dataflow.fabric import PeerLink
from hetc.backends.dataflow.schema import Collective

# Chunks in which an exchange follows the product whose result it sends.
CHUNKS = 8


def collective(
    kind: str, nbytes: int, groups: int, sockets: int, link: PeerLink | None
) -> Collective:
    """The cheaper of two ways to sum vectors of `nbytes` (`all_reduce`), or to join parts to one
    of `nbytes` (`all_gather`), one row group after the other.

    One shot: each socket sends its vector to all others, which add for themselves. Two shots:
    reduce-scatter and all-gather, (n-1)/n of the vector twice, and the link's latency twice
    (Thakur et al. 2005, sections 4.1 and 4.4). A ring waits n-1 times and is never right for
    vectors of one token. A group of one exchanges nothing.
    """
    if sockets == 1 or link is None:
        return Collective(
            algorithm="one-shot", bytes=nbytes, chunks=1, wire_cycles=0.0, latency_cycles=0.0
        )
    whole = nbytes / link.bytes_per_cycle
    part = whole / sockets if kind == "all_gather" else whole
    one = Collective(
        algorithm="one-shot",
        bytes=nbytes,
        chunks=CHUNKS,
        wire_cycles=(sockets - 1) * part,
        latency_cycles=float(link.latency_cycles),
    )
    if kind == "all_gather":
        return one
    two = Collective(
        algorithm="two-shot",
        bytes=nbytes,
        chunks=CHUNKS,
        wire_cycles=2 * (sockets - 1) / sockets * whole,
        latency_cycles=2.0 * link.latency_cycles,
    )
    return min(one, two, key=lambda way: way.wire_cycles / groups / CHUNKS + way.latency_cycles)
