"""What the sections of a plan take of a socket."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hetc.backends.dataflow.fit import Capacity, demand_of, total
from hetc.backends.dataflow.schema import Block, Resources


def resources_of(blocks: Sequence[Block], stages: Collection[str], capacity: Capacity) -> Resources:
    """What `stages` of the plan's `blocks` occupy together, and what there is."""
    buffers = [buffer for block in blocks for buffer in block.buffers]
    demand = total(
        demand_of(stage, block.streams, buffers)
        for block in blocks
        for stage in block.stages
        if stage.id in stages
    )
    return Resources(
        pcus=demand.pcus,
        pcus_of=capacity.pcus,
        pmus=demand.pmus,
        pmus_of=capacity.pmus,
        sram_bytes=demand.sram_bytes,
        sram_bytes_of=capacity.sram_bytes,
        ports=len(demand.ports),
        ports_of=capacity.ports,
    )
