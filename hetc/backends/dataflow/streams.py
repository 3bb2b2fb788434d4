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
    """`streams` bound to as many memory ports as their tier can fill, spread round the grid."""
    ports = len(fabric.ports)
    found = []
    first = 0
    for stream in streams:
        rate = fabric.tiers[stream.tier].peak_bytes_per_cycle
        needed = min(ports, ceil(rate / fabric.port_bytes_per_cycle))
        if stream.bytes <= stream.tile_bytes:
            needed = 1
        count = max(1, min(needed, stages[stream.stage].units.lanes))
        bound = tuple(sorted((first + ports * place // count) % ports for place in range(count)))
        first = (first + 1) % ports
        found.append(msgspec.structs.replace(stream, ports=bound))
    return tuple(found)


def give_credits(
    streams: Sequence[Stream],
    stages: Mapping[str, Stage],
    fabric: Fabric,
    request: Request,
    *,
    least: bool = False,
) -> tuple[Stream, ...]:
    """`streams` with room for all of their bytes, or what the memory units of their lanes hold.

    With `least`, two tiles each. What the user fixed stays.
    """
    usable = int(fabric.pmu_bytes * (1 - RESERVED_FRACTION))
    wanted: dict[str, int] = {}
    for stream in streams:
        wanted[stream.stage] = wanted.get(stream.stage, 0) + stream.bytes
    found = []
    for stream in streams:
        stage = stages[stream.stage]
        room = usable * stage.units.lanes
        fixed = requested(request, stage.id, stage.name).depth_bytes
        smallest = min(stream.bytes, 2 * stream.tile_bytes)
        depth = stream.bytes * min(room, wanted[stage.id]) // max(1, wanted[stage.id])
        why = "holds one iteration, so that the next is fetched while this one computes"
        if depth < stream.bytes:
            why = f"what the memory units of {stage.units.lanes} lanes hold"
        if fixed is not None:
            depth, why = min(fixed, stream.bytes), "as requested"
        elif least:
            depth = smallest
        found.append(msgspec.structs.replace(stream, depth_bytes=max(depth, smallest), why=why))
    return tuple(found)
