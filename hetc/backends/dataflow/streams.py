"""Streams: which memory ports they are bound to, which tier they come from, and their credits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from math import ceil

import msgspec

from hetc.backends.dataflow.fabric import Fabric
from hetc.backends.dataflow.fit import usable_bytes
from hetc.backends.dataflow.memory_map import Piece
from hetc.backends.dataflow.schema import Request, Stage, Stream
from hetc.backends.dataflow.stages import requested

# A port that has less to bring than takes it this long is not worth its wires.
_SHORT_CYCLES = 64


def split_tiers(
    streams: Sequence[Stream], pieces: Iterable[Piece], main: str
) -> tuple[Stream, ...]:
    """`streams` with one for each tier that a stage's tensors lie in."""
    held: dict[tuple[str, str, bool], Counter[str]] = {}
    for piece in pieces:
        key = (piece.block, piece.tensor, piece.use == "table")
        held.setdefault(key, Counter())[piece.tier] += piece.bytes
    found: list[Stream] = []
    for stream in streams:
        block, table = stream.stage.partition(".")[0], stream.kind == "lookup"
        found += _by_tier(
            stream, {tensor: held[block, tensor, table] for tensor in stream.tensors}, main
        )
    return tuple(found)


def _by_tier(stream: Stream, held: Mapping[str, Counter[str]], main: str) -> Iterator[Stream]:
    """`stream` once for each tier, with the tensors and the share of its bytes that are there."""
    whole = sum((shares for shares in held.values()), Counter[str]())
    left = stream.bytes
    tiers = sorted(whole, key=lambda tier: (tier != main, tier))
    for tier in tiers:
        share = round(stream.bytes * whole[tier] / whole.total())
        part = left if tier == tiers[-1] else min(left, share)
        left -= part
        # An expert lies in one tier as a whole, however few there are to be expected.
        tile = stream.tile_bytes if stream.kind == "expert" else min(stream.tile_bytes, part)
        if part:
            yield msgspec.structs.replace(
                stream,
                id=stream.id if tier == main else f"{stream.id}@{tier}",
                tensors=tuple(tensor for tensor in stream.tensors if held[tensor][tier]),
                tier=tier,
                bytes=part,
                tile_bytes=tile,
                depth_bytes=part,
            )


def bind_ports(
    streams: Sequence[Stream], stages: Mapping[str, Stage], fabric: Fabric
) -> tuple[Stream, ...]:
    """`streams` bound to memory ports: a stage's lanes to as many as its fastest tier fills."""
    wanted: dict[str, int] = {}
    for stream in streams:
        most = min(_ports_filled(stream, fabric), stages[stream.stage].units.lanes)
        wanted[stream.stage] = max(1, most, wanted.get(stream.stage, 1))
    return tuple(
        msgspec.structs.replace(stream, ports=tuple(range(wanted[stream.stage])))
        for stream in streams
    )


def _ports_filled(stream: Stream, fabric: Fabric) -> int:
    """Ports that the stream's tier keeps busy, each for a while at least."""
    filled = ceil(fabric.tiers[stream.tier].peak_bytes_per_cycle / fabric.port_bytes_per_cycle)
    worth = ceil(stream.bytes / (fabric.port_bytes_per_cycle * _SHORT_CYCLES))
    return max(1, min(len(fabric.ports), filled, worth))


def held_bytes(
    streams: Iterable[Stream], pieces: Iterable[Piece], early: Collection[str], groups: int
) -> dict[str, int]:
    """Stream -> the most bytes that can wait for their stage, or stay in it: those of an iteration.
    A state that is fetched `early` grows to its whole context; what stays for all row `groups` is
    there while that of the next iteration comes."""
    full = {(item.block, item.tensor): item.bytes for item in pieces if item.use == "state"}
    return {
        stream.id: sum(full[stream.stage.partition(".")[0], name] for name in stream.tensors)
        if stream.kind == "state" and stream.id in early
        else stream.bytes * (2 if stays(stream, groups) else 1)
        for stream in streams
    }


def stays(stream: Stream, groups: int) -> bool:
    """Whether what a stream brings stays in its stage until the last row group has passed."""
    return groups > stream.parts(groups)


def give_credits(
    streams: Sequence[Stream],
    stages: Mapping[str, Stage],
    fabric: Fabric,
    request: Request,
    hold: Mapping[str, int],
    groups: int,
    *,
    least: bool = False,
) -> tuple[Stream, ...]:
    """`streams` with room for all bytes that they `hold`, or what the memory units of their lanes
    hold.

    What comes from a slower tier is served first. With `least`, two tiles each, or all that stays
    for several row `groups`. What the user fixed stays.
    """
    found: dict[str, Stream] = {}
    for id, stage in stages.items():
        own = [stream for stream in streams if stream.stage == id]
        fixed = requested(request, id, stage.name).depth_bytes
        room = usable_bytes(fabric) * stage.units.lanes
        # This much of each is there in any case.
        room -= sum(_smallest(stream, groups) for stream in own)
        slow = [stream for stream in own if stream.tier != fabric.main_memory]
        fast = [stream for stream in own if stream.tier == fabric.main_memory]
        for same in (slow, fast):
            wanted = {stream.id: behind(own, stream, fabric, hold) for stream in same}
            more = sum(wanted.values()) - sum(_smallest(stream, groups) for stream in same)
            given = max(0, min(more, room))
            room -= given
            for stream in same:
                depth = smallest = _smallest(stream, groups)
                if more > 0 and not least:
                    depth += (wanted[stream.id] - smallest) * given // more
                why = _why(depth, wanted[stream.id], stream, stage, fabric, groups)
                tile = stream.tile_bytes
                if fixed is not None:
                    depth, why = max(1, min(fixed, stream.bytes)), "as requested"
                    tile = depth if depth == stream.bytes else min(tile, max(1, depth // 2))
                found[stream.id] = msgspec.structs.replace(
                    stream, tile_bytes=tile, depth_bytes=depth, why=why
                )
    return tuple(found[stream.id] for stream in streams)


def _why(depth: int, wanted: int, stream: Stream, stage: Stage, fabric: Fabric, groups: int) -> str:
    if depth < wanted:
        return f"what the memory units of {stage.units.lanes} lanes hold"
    if stays(stream, groups):
        return f"holds one iteration for {groups} row groups while the next is fetched"
    if stream.tier != fabric.main_memory:
        return f"what {stream.tier} brings while the stage takes its other streams"
    return "holds one iteration, so that the next is fetched while this one computes"


def behind(own: Iterable[Stream], stream: Stream, fabric: Fabric, hold: Mapping[str, int]) -> int:
    """The credits that `stream`, of the stage's `own`, can use: all of its bytes; from a slower
    tier what that brings while the stage takes the others."""
    if stream.tier == fabric.main_memory:
        return hold[stream.id]
    others = sum(other.bytes for other in own if other.tier == fabric.main_memory)
    cycles = others / fabric.tiers[fabric.main_memory].bytes_per_cycle
    brought = ceil(cycles * fabric.tiers[stream.tier].bytes_per_cycle)
    return min(stream.bytes, brought + _smallest(stream, 1))


def _smallest(stream: Stream, groups: int) -> int:
    if stays(stream, groups):
        return stream.bytes
    two_tiles = 2 * stream.tile_bytes
    return two_tiles if stream.kind == "expert" else min(stream.bytes, two_tiles)
