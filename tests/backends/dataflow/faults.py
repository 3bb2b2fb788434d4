"""Changes of a plan that need more than the one value: what `mutations.py` seeds by name."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from hypothesis import strategies as st

from hetc.backends.dataflow.schema import (
    Allocation,
    Append,
    Block,
    Route,
    Section,
    ShardOf,
    Stage,
    Stream,
)
from hetc.backends.dataflow.steps import Advance
from tests.backends.dataflow.edits import Draw, shift

Path = tuple[int, int, str]
Sites = dict[str, tuple[int, int]]


def swap_ops(block: Block, draw: Draw) -> Block | None:
    if len(block.stages) < 2:
        return None
    one, other = draw(st.permutations(range(len(block.stages))))[:2]
    stages = list(block.stages)
    for place, source in ((one, other), (other, one)):
        ops = block.stages[source].ops
        stages[place] = msgspec.structs.replace(block.stages[place], ops=ops)
    return msgspec.structs.replace(block, stages=tuple(stages))


def share_op(block: Block, draw: Draw) -> Block | None:
    if len(block.stages) < 2:
        return None
    one, other = draw(st.permutations(range(len(block.stages))))[:2]
    stages = list(block.stages)
    if not stages[other].ops:
        return None
    ops = (*stages[one].ops, draw(st.sampled_from(stages[other].ops)))
    stages[one] = msgspec.structs.replace(stages[one], ops=ops)
    return msgspec.structs.replace(block, stages=tuple(stages))


def late(block: Block, draw: Draw) -> Block | None:
    """All dependences of one stage on its own block carried."""
    own = {stage.id for stage in block.stages}
    fitting = [
        place
        for place, stage in enumerate(block.stages)
        if any(d.stage in own and not d.carried for d in stage.depends)
    ]
    if not fitting or block.repeat == 1:
        return None
    place = draw(st.sampled_from(fitting))
    depends = [
        msgspec.structs.replace(d, carried=d.carried or d.stage in own)
        for d in block.stages[place].depends
    ]
    stage = msgspec.structs.replace(block.stages[place], depends=tuple(depends))
    stages = (*block.stages[:place], stage, *block.stages[place + 1 :])
    return msgspec.structs.replace(block, stages=stages)


def needs_the_last(block: Block, draw: Draw) -> Block | None:
    """The addresses of the first stream depend on the last stage."""
    if len(block.stages) < 3 or not block.streams:
        return None
    first = msgspec.structs.replace(block.streams[0], after=block.stages[-1].id)
    return msgspec.structs.replace(block, streams=(first, *block.streams[1:]))


def too_early(block: Block, draw: Draw) -> Block | None:
    """A stream that has not room for all of it is issued an iteration early."""
    tight = {stream.id for stream in block.streams if stream.depth_bytes < stream.bytes}
    for place, issue in enumerate(block.issue):
        if issue.stream in tight and block.repeat > 1:
            early = msgspec.structs.replace(issue, ahead=1)
            queue = (*block.issue[:place], early, *block.issue[place + 1 :])
            return msgspec.structs.replace(block, issue=queue)
    return None


def below_two_tiles(stream: Stream) -> int:
    return max(0, min(stream.bytes, 2 * stream.tile_bytes) - 1)


def no_room_for_groups(block: Block, draw: Draw) -> Block | None:
    """Two row groups, and two tiles of room for a weight that both need."""
    places = [
        place
        for place, stream in enumerate(block.streams)
        if stream.kind == "weight" and 2 * stream.tile_bytes < stream.bytes
    ]
    if not places:
        return None
    place, streams = draw(st.sampled_from(places)), list(block.streams)
    depth = 2 * streams[place].tile_bytes
    streams[place] = msgspec.structs.replace(streams[place], depth_bytes=depth)
    return msgspec.structs.replace(block, streams=tuple(streams), row_groups=2)


def grouped_through_memory(block: Block, draw: Draw) -> Block | None:
    """Two row groups, whose activations pass through memory."""
    if not block.buffers:
        return None
    place, buffers = draw(st.integers(0, len(block.buffers) - 1)), list(block.buffers)
    buffers[place] = msgspec.structs.replace(buffers[place], tier="hbm")
    return msgspec.structs.replace(block, buffers=tuple(buffers), row_groups=2)


def executes_backwards(steps: tuple[Any, ...], draw: Draw) -> tuple[Any, ...]:
    return (*(step for step in steps[::-1] if not isinstance(step, Advance)), Advance(rows=1))


def on_top(sites: Sites, draw: Draw) -> Sites | None:
    """One work lane on the site of another."""
    lanes = [unit for unit in sites if ".w" in unit]
    if len(lanes) < 2:
        return None
    one, other = draw(st.permutations(lanes))[:2]
    return {**sites, one: sites[other]}


def swap_sites(sites: Sites, draw: Draw) -> Sites | None:
    """Work lanes of two stages change places."""
    lanes = [unit for unit in sites if unit.endswith(".w0")]
    if len(lanes) < 2:
        return None
    one, other = draw(st.permutations(lanes))[:2]
    return {**sites, one: sites[other], other: sites[one]}


def lose_site(sites: Sites, draw: Draw) -> Sites | None:
    if not sites:
        return None
    lost = draw(st.sampled_from(sorted(sites)))
    return {unit: site for unit, site in sites.items() if unit != lost}


def circle(section: Section, draw: Draw) -> Section:
    """Four nets of two links each that wait for each other around a square."""
    corners = ((0, 0, "E1S1"), (1, 0, "S1W1"), (1, 1, "W1N1"), (0, 1, "N1E1"))
    nets = [
        Route(
            net=f"circle.{place}",
            kind="test",
            network="scalar",
            vc=0,
            bytes_per_cycle=1,
            paths=(path,),
        )
        for place, path in enumerate(corners)
    ]
    return msgspec.structs.replace(section, routes=(*section.routes, *nets))


def other_offset(memory: tuple[Any, ...], draw: Draw) -> tuple[Any, ...] | None:
    if len(memory) < 2:
        return None
    one, other = draw(st.permutations(range(len(memory))))[:2]
    if memory[one].tier != memory[other].tier:
        return None
    moved = msgspec.structs.replace(memory[one], offset=memory[other].offset)
    return (*memory[:one], moved, *memory[one + 1 :])


def false_bytes(stream: Stream, draw: Draw) -> Stream | None:
    if stream.kind not in ("weight", "state"):
        return None
    return msgspec.structs.replace(stream, bytes=int(shift(stream.bytes, draw) or 1))


def no_root(paths: tuple[Path, ...], draw: Draw) -> tuple[Path, ...]:
    """A tree without its first path."""
    return paths[1:]


def elsewhere(paths: tuple[Path, ...], draw: Draw) -> tuple[Path, ...] | None:
    """The first path from the switch below."""
    if not paths:
        return None
    (x, y, hops), *rest = paths
    return ((x, y + 1, hops), *rest)


def hop_short(route: Route, draw: Draw) -> Route | None:
    """A net of one path without its last hop. (A lane may be fed by several ports.)"""
    if len(route.paths) != 1 or route.kind == "memory":
        return None
    x, y, hops = route.paths[0]
    ending = re.fullmatch(r"(.*?)(\d+)", hops)
    if ending is None:
        return None
    head, left = ending[1], int(ending[2]) - 1
    path = x, y, f"{head}{left}" if left else head[:-1]
    return msgspec.structs.replace(route, paths=(path,))


def lose_net(routes: tuple[Route, ...], draw: Draw) -> tuple[Route, ...] | None:
    """One that goes somewhere: what stands on one switch needs none."""
    long = [place for place, route in enumerate(routes) if any(path[2] for path in route.paths)]
    if not long:
        return None
    place = draw(st.sampled_from(long))
    return (*routes[:place], *routes[place + 1 :])


def turned(path: Path, draw: Draw) -> Path:
    """The other way from the same switch."""
    return path[0], path[1], path[2].translate(str.maketrans("EWNS", "WESN"))


def off_grid(path: Path, draw: Draw) -> Path:
    return path[0], path[1], f"{path[2]}E9999"


def no_hops(path: Path, draw: Draw) -> Path:
    return path[0], path[1], ""


def back_and_forth(path: Path, draw: Draw) -> Path:
    first = path[2][:1] or "E"
    back = first.translate(str.maketrans("EWNS", "WESN"))
    return path[0], path[1], f"{first}1{back}1{path[2]}"


def too_wide(route: Route, draw: Draw) -> Route | None:
    return msgspec.structs.replace(route, bytes_per_cycle=10_000) if route.paths else None


def renamed(route: Route, draw: Draw) -> Route | None:
    """A net of the right kind to a stage that does not exist."""
    start, arrow, _ = route.net.partition(">")
    if not arrow or not route.paths:
        return None
    return msgspec.structs.replace(route, net=f"{start}>nobody.{route.kind}")


def thin(route: Route, draw: Draw) -> Route | None:
    if route.kind != "memory":
        return None
    return msgspec.structs.replace(route, bytes_per_cycle=1)


def long_stride(item: Allocation, draw: Draw) -> Allocation | None:
    """Iterations in the middle of each other."""
    if item.count == 1:
        return None
    return msgspec.structs.replace(item, stride=item.bytes // 2 // 64 * 64 or 64)


def no_stride(item: Allocation, draw: Draw) -> Allocation | None:
    return None if item.count == 1 else msgspec.structs.replace(item, stride=0)


def lives_elsewhere(memory: tuple[Allocation, ...], draw: Draw) -> tuple[Allocation, ...] | None:
    """A tensor that lives while another block runs, and not its own."""
    if not memory:
        return None
    place = draw(st.integers(0, len(memory) - 1))
    others = sorted({item.block for item in memory} - {memory[place].block})
    if not others:
        return None
    other = draw(st.sampled_from(others))
    moved = msgspec.structs.replace(memory[place], live=(other, other))
    return (*memory[:place], moved, *memory[place + 1 :])


def fewer_rows(rows: tuple[int, int], draw: Draw) -> tuple[int, int] | None:
    if rows[0] >= rows[1]:
        return None
    return rows[0], draw(st.integers(rows[0], rows[1] - 1))


def lose_shard(shards: tuple[ShardOf, ...], draw: Draw) -> tuple[ShardOf, ...] | None:
    """Without a shard, of a plan that splits."""
    if all(shard.parts == 1 for shard in shards):
        return None
    place = draw(st.integers(0, len(shards) - 1))
    return (*shards[:place], *shards[place + 1 :])


def other_axis(shard: ShardOf, draw: Draw) -> ShardOf | None:
    if shard.axis not in (0, 1):
        return None
    return msgspec.structs.replace(shard, axis=1 - shard.axis)


def whole(shard: ShardOf, draw: Draw) -> ShardOf | None:
    if shard.parts == 1:
        return None
    return msgspec.structs.replace(shard, axis=None, parts=1, groups=1)


def queue_backwards(block: Block, draw: Draw) -> Block | None:
    """The queue of a layer, in which a stream has not room for all of it."""
    tight = any(stream.depth_bytes < stream.bytes for stream in block.streams)
    if not tight or len(block.issue) < 3:
        return None
    return msgspec.structs.replace(block, issue=block.issue[::-1])


def waits_for_the_end(block: Block, draw: Draw) -> Block | None:
    """A consumer that takes chunk by chunk from a buffer too small for the whole waits for it."""
    tight = {
        (consumer, buffer.producer)
        for buffer in block.buffers
        for consumer in buffer.consumers
        if buffer.depth_bytes < buffer.bytes
    }
    stages = [
        msgspec.structs.replace(
            stage,
            depends=tuple(
                msgspec.structs.replace(d, kind="barrier") if (stage.id, d.stage) in tight else d
                for d in stage.depends
            ),
        )
        for stage in block.stages
    ]
    return msgspec.structs.replace(block, stages=tuple(stages))


def too_fast(stage: Stage, draw: Draw) -> Stage | None:
    return msgspec.structs.replace(stage, rate_bytes_per_cycle=1e9) if stage.streams else None


def too_slow(stage: Stage, draw: Draw) -> Stage | None:
    return msgspec.structs.replace(stage, rate_bytes_per_cycle=0.01) if stage.streams else None


def one_port(stream: Stream, draw: Draw) -> Stream | None:
    if len(stream.ports) < 2:
        return None
    return msgspec.structs.replace(stream, ports=stream.ports[:1])


def no_collective(stage: Stage, draw: Draw) -> Stage | None:
    return msgspec.structs.replace(stage, collective=None) if stage.collective else None


def other_ring(append: Append, draw: Draw) -> Append:
    return msgspec.structs.replace(append, ring=(append.ring or 0) + 7)
