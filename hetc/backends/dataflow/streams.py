"""Streams: which memory ports they are bound to, which tier they come from, and their credits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil

import msgspec

from hetc.backends.dataflow.fabric import Fabric
from hetc.backends.dataflow.fit import RESERVED_FRACTION
from hetc.backends.dataflow.memory_map import Piece
from hetc.backends.dataflow.schema import Request, Stage, Stream
from hetc.backends.dataflow.stages import requested

# A port that has less to bring than takes it this long is not worth its wires.
_SHORT_CYCLES = 64


def split_tiers(
    streams: Sequence[Stream], pieces: Iterable[Piece], main: str
) -> tuple[Stream, ...]:
    """`streams` with one for each tier that a stage's tensors lie in."""
    held: dict[tuple[str, str, bool], dict[str, int]] = {}
    for piece in pieces:
        key = (piece.block, piece.tensor, piece.use == "table")
        tiers = held.setdefault(key, {})
        tiers[piece.tier] = tiers.get(piece.tier, 0) + piece.bytes
    found: list[Stream] = []
    for stream in streams:
        block, table = stream.stage.partition(".")[0], stream.kind == "lookup"
        shares: dict[str, int] = {}
        for tensor in stream.tensors:
            for tier, nbytes in held[block, tensor, table].items():
                shares[tier] = shares.get(tier, 0) + nbytes
        found += _by_tier(stream, shares, main)
    return tuple(found)


def _by_tier(stream: Stream, shares: Mapping[str, int], main: str) -> Iterable[Stream]:
    whole = sum(shares.values())
    left = stream.bytes
    for tier, nbytes in sorted(shares.items(), key=lambda item: item[0] != main):
        part = min(left, round(stream.bytes * nbytes / whole))
        if tier == sorted(shares, key=lambda name: name != main)[-1]:
            part = left
        left -= part
        if part:
            suffix = "" if tier == main else f"@{tier}"
            yield msgspec.structs.replace(
                stream,
                id=f"{stream.id}{suffix}",
                tier=tier,
                bytes=part,
                tile_bytes=min(stream.tile_bytes, part),
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


def give_credits(
    streams: Sequence[Stream],
    stages: Mapping[str, Stage],
    fabric: Fabric,
    request: Request,
    *,
    least: bool = False,
) -> tuple[Stream, ...]:
    """`streams` with room for all of their bytes, or what the memory units of their lanes hold.

    What comes from a slower tier is served first. With `least`, two tiles each. What the user fixed
    stays.
    """
    found: dict[str, Stream] = {}
    for id, stage in stages.items():
        own = [stream for stream in streams if stream.stage == id]
        fixed = requested(request, id, stage.name).depth_bytes
        room = usable_bytes(fabric) * stage.units.lanes
        # Two tiles of each are there in any case.
        room -= sum(_smallest(stream) for stream in own)
        slow = [stream for stream in own if stream.tier != fabric.main_memory]
        fast = [stream for stream in own if stream.tier == fabric.main_memory]
        for same in (slow, fast):
            wanted = {stream.id: behind(own, stream, fabric) for stream in same}
            more = sum(wanted.values()) - sum(_smallest(stream) for stream in same)
            given = max(0, min(more, room))
            room -= given
            for stream in same:
                depth = smallest = _smallest(stream)
                if more > 0 and not least:
                    depth += (wanted[stream.id] - smallest) * given // more
                why = _why(depth, wanted[stream.id], stream, stage, fabric)
                if fixed is not None:
                    depth, why = max(smallest, min(fixed, stream.bytes)), "as requested"
                found[stream.id] = msgspec.structs.replace(stream, depth_bytes=depth, why=why)
    return tuple(found[stream.id] for stream in streams)


def _why(depth: int, wanted: int, stream: Stream, stage: Stage, fabric: Fabric) -> str:
    if depth < wanted:
        return f"what the memory units of {stage.units.lanes} lanes hold"
    if stream.tier != fabric.main_memory:
        return f"what {stream.tier} brings while the stage takes its other streams"
    return "holds one iteration, so that the next is fetched while this one computes"


def usable_bytes(fabric: Fabric) -> int:
    """What streams may take of one memory unit."""
    return int(fabric.pmu_bytes * (1 - RESERVED_FRACTION))


def behind(own: Iterable[Stream], stream: Stream, fabric: Fabric) -> int:
    """The credits that `stream`, of the stage's `own`, can use: all of its bytes; from a slower
    tier what that brings while the stage takes the others."""
    if stream.tier == fabric.main_memory:
        return stream.bytes
    others = sum(other.bytes for other in own if other.tier == fabric.main_memory)
    cycles = others / fabric.tiers[fabric.main_memory].bytes_per_cycle
    brought = ceil(cycles * fabric.tiers[stream.tier].bytes_per_cycle)
    return min(stream.bytes, brought + _smallest(stream))


def _smallest(stream: Stream) -> int:
    return min(stream.bytes, 2 * stream.tile_bytes)
