"""The order in which a tier's queue fetches the streams of a block.

Batch-1 decode is a chain of stages, each of which wants the whole memory while it is next: one
queue in program order. Where a router chooses experts, their addresses are known late, and the
queue would stand still meanwhile: what the next layer needs first is fetched before them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hetc.backends.dataflow.schema import Issue, Stream


def issue_order(
    streams: Sequence[Stream], hold: Mapping[str, int], *, ahead: bool
) -> tuple[Issue, ...]:
    """The queue's order for one iteration; `ahead` where the block repeats and may prefetch.

    The streams fall into runs that wait for nothing, each but the last before a run that waits for
    a router: A1 G1 A2 G2 ... becomes A2 G1 ... A1' Gn, where A1' is the next iteration's. What is
    fetched early must be held whole, which may be `hold` bytes: where that has no room, the order
    is that of the stages.
    """
    runs = _runs(streams)
    early = held_whole(streams) if ahead else frozenset()
    held = all(stream.depth_bytes >= hold[stream.id] for stream in streams if stream.id in early)
    if not early or not held:
        return tuple(Issue(stream=stream.id) for stream in streams)
    free, gated = runs[::2], runs[1::2]
    order: list[Issue] = []
    for number, waiting in enumerate(gated):
        last = number + 1 == len(gated)
        following = free[0] if last else free[number + 1]
        order += [Issue(stream=stream.id, ahead=int(last)) for stream in following]
        order += [Issue(stream=stream.id) for stream in waiting]
    if len(free) > len(gated):
        order += [Issue(stream=stream.id) for stream in free[-1]]
    return tuple(order)


def held_whole(streams: Sequence[Stream]) -> frozenset[str]:
    """The streams that can be fetched before others that their stage waits for: with less room
    than all of their bytes the queue would stand still for ever."""
    runs = _runs(streams)
    gated = len(runs) // 2
    return frozenset(stream.id for run in runs[: 2 * gated : 2] for stream in run)


def _runs(streams: Sequence[Stream]) -> list[list[Stream]]:
    """Alternately streams that wait for nothing and streams that do; the first may be empty."""
    runs: list[list[Stream]] = [[]]
    for stream in streams:
        waits = stream.after is not None
        if waits != (len(runs) % 2 == 0):
            runs.append([])
        runs[-1].append(stream)
    return runs
