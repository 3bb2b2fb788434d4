"""Stages and streams of a plan -> their timing."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hetc.backends.dataflow import schema
from hetc.backends.dataflow.simulate.program import Names, amount, rate
from hetc.backends.dataflow.simulate.speeds import Speeds
from hetc.backends.dataflow.simulate.timing import Flow, Room, Stage, Wait, When
from hetc.errors import BackendError


def flow_of(
    stream: schema.Stream, stage: schema.Stage, tiers: list[str], names: Names, speeds: Speeds
) -> Flow:
    """The timing of a stream that moves something; BackendError HETC-L103, HETC-L105, HETC-L108.

    With row groups a state comes in parts, one a group, and everything else stays for all of them.
    """
    resident = stream.tier == "sram"
    groups = names.block_of[stage.id].row_groups
    parts = stream.parts(groups)
    size, rest = divmod(stream.bytes, parts)
    if rest:
        raise BackendError(
            "HETC-L105",
            "a state has no equal part for each row group",
            at=stream.id,
            expected=f"a multiple of {parts} bytes",
            found=stream.bytes,
        )
    tile = size if resident else min(stream.tile_bytes, size)
    rate(tile, f"{stream.id} tile_bytes")
    tiles = math.ceil(size / tile)
    last = size - tile * (tiles - 1)
    passes = 1 if resident or parts > 1 else groups
    least = size if passes > 1 else tile
    if not resident and stream.depth_bytes < least:
        raise BackendError(
            "HETC-L103",
            "what a stage must hold is larger than the credits of its stream"
            if passes > 1
            else "a tile is larger than the credits of its stream",
            at=stream.id,
            expected=f"depth_bytes of at least {least}",
            found=stream.depth_bytes,
        )
    serves = math.inf if resident else _serves(stream, tiers, speeds)
    takes = rate(stage.rate_bytes_per_cycle, f"{stage.id} rate_bytes_per_cycle")
    after = None
    if stream.after is not None:
        after = _wait(stream.after, names.block_of[stage.id], names, carried=False)
    return Flow(
        name=stream.id,
        stage=names.stage_of[stage.id],
        queue=None if resident else queue_of(tiers, stream.tier, stream.id),
        bytes=size,
        depth_bytes=stream.depth_bytes,
        tiles=tiles,
        tile_bytes=tile,
        last_bytes=last,
        serve=tile / serves,
        serve_last=last / serves,
        take=tile / takes,
        take_last=last / takes,
        fits=() if resident else _fits(tiles, tile, last, stream.depth_bytes),
        passes=passes,
        after=after,
    )


def stage_of(
    stage: schema.Stage, flows: tuple[int, ...], reads: tuple[int, ...], names: Names
) -> Stage:
    """The timing of a stage with the flows and moves of these indices; BackendError HETC-L105."""
    exchange = stage.collective
    latency = amount(stage.latency_cycles, f"{stage.id} latency_cycles")
    wire, chunks, share = 0.0, 1, 1.0
    block = names.block_of[stage.id]
    if exchange is not None:
        share = _share(block, stage)
        wire = amount(exchange.wire_cycles, f"{stage.id} wire_cycles") / block.row_groups / share
        latency += amount(exchange.latency_cycles, f"{stage.id} collective latency_cycles")
        if any(depends.kind == "stream" for depends in stage.depends):
            chunks = max(1, exchange.chunks)
    waits = tuple(
        _wait(on.stage, block, names, carried=on.carried, streamed=on.kind == "stream")
        for on in stage.depends
    )
    return Stage(
        name=stage.id,
        flows=flows,
        waits=waits,
        work=amount(stage.work_cycles, f"{stage.id} work_cycles"),
        latency=latency,
        wire=wire,
        wire_last=wire / chunks,
        share=share,
        reads=reads,
        room=tuple(_room(stage.id, block, names)),
    )


def _room(producer: str, block: schema.Block, names: Names) -> Iterator[Room]:
    """What a stage waits for before it writes over what its buffers hold.

    Consumers in other blocks do not count: they read what the last iteration of a token left, and
    tokens follow each other.
    """
    stages = {stage.id: stage for stage in block.stages}
    for buffer in block.buffers:
        if buffer.producer != producer or buffer.tier != "sram" or not buffer.bytes:
            continue
        copies = max(1, buffer.depth_bytes // buffer.bytes)
        for consumer in buffer.consumers:
            index = names.stage(consumer, buffer.id)
            for depends in stages[consumer].depends if consumer in stages else ():
                if depends.stage == producer != consumer:
                    yield Room(buffer.id, index, copies - depends.carried)


def _share(block: schema.Block, stage: schema.Stage) -> float:
    """The part of the peer link that a stage has: all of it in turn, or what it sends of what its
    block does where row groups follow each other."""
    exchanges = {s.id: s.collective.wire_cycles for s in block.stages if s.collective is not None}
    total = sum(exchanges.values())
    return exchanges[stage.id] / total if block.row_groups > 1 and exchanges[stage.id] else 1.0


def check_owner(stream: schema.Stream, stage: schema.Stage) -> None:
    """A stage lists its own streams: BackendError HETC-L101."""
    if stream.stage != stage.id:
        raise BackendError(
            "HETC-L101",
            "a stream belongs to another stage than the one that lists it",
            at=stream.id,
            expected=stage.id,
            found=stream.stage,
        )


def queue_of(tiers: list[str], tier: str, at: str) -> int:
    """Index of a tier's queue; BackendError HETC-L108."""
    if tier not in tiers:
        raise BackendError(
            "HETC-L108",
            "the target has no such memory",
            at=at,
            expected=", ".join(tiers),
            found=tier,
        )
    return tiers.index(tier)


def _serves(stream: schema.Stream, tiers: list[str], speeds: Speeds) -> float:
    """Bytes a cycle that reach a stream: the memory's, or its ports' where that is less."""
    ports = len(set(stream.ports)) * speeds.port_bytes_per_cycle
    memory = speeds.memories[tiers[queue_of(tiers, stream.tier, stream.id)]]
    return rate(min(memory.sustained, ports), f"{stream.id} ports")


def _wait(
    name: str, block: schema.Block, names: Names, *, carried: bool, streamed: bool = False
) -> Wait:
    stage = names.stage(name, f"depends in {block.id}")
    if names.block_of[name] is not block:
        return Wait(stage, When.LATEST, streamed)
    return Wait(stage, When.BEFORE if carried else When.SAME, streamed)


def _fits(tiles: int, tile: int, last: int, depth: int) -> tuple[int, ...]:
    """For each tile of an iteration: how many tiles fit `depth` bytes, counted back from it."""
    whole, rest = divmod(depth, tile * (tiles - 1) + last)
    fits = []
    for index in range(tiles):
        end = index == tiles - 1
        fits.append(whole * tiles + _fit_back(index, tile, last, rest, end=end))
    return tuple(fits)


def _fit_back(index: int, tile: int, last: int, rest: int, *, end: bool) -> int:
    """How many of the tiles index, index - 1, ... and of the iteration before fit `rest` bytes,
    which are less than an iteration."""
    if end:
        return 1 + (rest - last) // tile if rest >= last else 0
    full = rest // tile
    if full <= index:
        return full
    left = rest - (index + 1) * tile
    return index + 1 + (1 + (left - last) // tile if left >= last else 0)
