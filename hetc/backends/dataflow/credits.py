"""Credits: as little of the memory units for each stream as a token's time allows.

Buffers are for bubbles: for the time in which a stage waits for something else than memory. How
much that is, the simulator knows: from the largest stream down, each is given the smallest part of
its bytes with which the token takes as long as with all of them.
"""

from __future__ import annotations

import msgspec

from hetc.backends.dataflow.fit import Capacity
from hetc.backends.dataflow.issue import held_whole
from hetc.backends.dataflow.resources import resources_of
from hetc.backends.dataflow.schema import Block, Plan, Stream
from hetc.backends.dataflow.simulate import Speeds, simulate
from hetc.backends.dataflow.stages import requested
from hetc.backends.dataflow.streams import stays

# A token may take this much longer, over all streams.
TOLERANCE = 5e-4
_PARTS = (16, 8, 4, 2)


def fewest_credits(plan: Plan, speeds: Speeds, capacity: Capacity) -> Plan:
    """`plan` with as few credits as keep its time; what the user fixed, and what must be held
    whole, stays."""
    most_cycles = simulate(plan, speeds).cycles * (1 + TOLERANCE)
    for number, block in enumerate(plan.blocks):
        early = held_whole(block.streams) if any(item.ahead for item in block.issue) else ()
        for stream in sorted(block.streams, key=lambda item: -item.bytes):
            if stream.id in early or _is_fixed(plan, block, stream):
                continue
            held = stream.bytes if stays(stream, block.row_groups) else 0
            for part in _PARTS:
                depth = max(2 * stream.tile_bytes, held + stream.bytes // part)
                if depth >= stream.depth_bytes:
                    break
                why = f"{'one and ' * bool(held)}1/{part} of an iteration: less would cost time"
                why += ", by simulation"
                tried = _with_depth(plan, number, stream.id, depth, why)
                if simulate(tried, speeds).cycles <= most_cycles:
                    plan = tried
                    break
    sections = tuple(
        msgspec.structs.replace(
            section, resources=resources_of(plan.blocks, section.stages, capacity)
        )
        for section in plan.sections
    )
    return msgspec.structs.replace(plan, sections=sections)


def _is_fixed(plan: Plan, block: Block, stream: Stream) -> bool:
    name = next(stage.name for stage in block.stages if stage.id == stream.stage)
    return requested(plan.request, stream.stage, name).depth_bytes is not None


def _with_depth(plan: Plan, number: int, id: str, depth: int, why: str) -> Plan:
    block = plan.blocks[number]
    streams = tuple(
        msgspec.structs.replace(stream, depth_bytes=depth, why=why) if stream.id == id else stream
        for stream in block.streams
    )
    changed = msgspec.structs.replace(block, streams=streams)
    blocks = (*plan.blocks[:number], changed, *plan.blocks[number + 1 :])
    return msgspec.structs.replace(plan, blocks=blocks)
