"""Times a plan: cycles of one token on one socket, tile by tile.

Times are floats in cycles of the fabric's clock. The rules, which `maxplus.py` follows as a longest
path and `heap.py` as events:

Queues. Each memory tier has one queue, in program order: in a turn the entries of the block's
`issue`, each with all tiles of its stream for the iteration `ahead` of it (nothing beyond the last;
the first turn also issues what lies before that). Nothing is ahead in a loop that is launched,
configured or not prefetched. A tile is issued when the queue is free, its stream has credits for
all its bytes (they come back when a tile is taken) and its gate is open; it occupies the queue for
tile / min(tier's sustained rate, ports x port rate) and arrives a latency later. Gates: the end of
the stream's `after` stage; the turn's launch; a stage's own launch; without prefetch the end of the
iteration, or the start of the token.

Stages. An execution begins at the latest of: the turn's begin, its own end before, the end of each
`barrier` and the first result of each `stream` dependence, its buffers read from memory; plus its
launch. It takes its streams' tiles one after the other, each in tile / rate; the last one waits for
the end of the producers that it takes results from. It ends `latency_cycles` after the latest of
its last tile, begin + `work_cycles` and those producers' end; the first result is there
`latency_cycles` after the first tile, or after the begin where there are none. It begins no sooner
than its buffers have room: each consumer in its block has ended with what was written so many
iterations before as the buffer holds.

Row groups. A block with several passes its stages once for each, and all that is said of an
iteration holds for each group: dependences are on the same group. A state comes in parts; any other
stream comes once, is taken by each pass, and its room is free after the last one. The next group
begins when the units are free, while the last results are on their way out. Exchanges have a share
of the link each, by what they send, in place of turns.

Exchanges. The peer link serves one at a time, in program order, from begin to the later of begin +
`wire_cycles` and the input's end + `wire_cycles` (/ `chunks` where the input is a stream). The
exchange's latency adds to the stage's; its first result is its end.

Writes. Rows of the state are written at the end of the next turn, after the stage that made them,
on the queue of the tier that they are read from: a row is written before the next token reads it,
and reading ahead goes on. A buffer in memory is written after its producer, and read before its
consumer begins, each with the tier's latency.

Program. A token begins `overhead_cycles` after the end of the one before. `Configure` of a section
that is not loaded, and a launch of a block, begin when everything before has ended.
"""

from hetc.backends.dataflow.simulate.resources import (
    BufferUse,
    PortUse,
    ResourceUse,
    resource_use,
)
from hetc.backends.dataflow.simulate.result import (
    BlockUse,
    Bottleneck,
    Mode,
    QueueUse,
    Simulated,
    StageUse,
    StreamUse,
)
from hetc.backends.dataflow.simulate.run import simulate
from hetc.backends.dataflow.simulate.sensitivity import Sensitivity, held_in_plans, sensitivity
from hetc.backends.dataflow.simulate.speeds import MemorySpeed, Speeds, speeds_of
from hetc.backends.dataflow.simulate.timeline import Timeline, timeline
from hetc.backends.dataflow.simulate.trace import trace

__all__ = [
    "BlockUse",
    "Bottleneck",
    "BufferUse",
    "MemorySpeed",
    "Mode",
    "PortUse",
    "QueueUse",
    "ResourceUse",
    "Sensitivity",
    "Simulated",
    "Speeds",
    "StageUse",
    "StreamUse",
    "Timeline",
    "held_in_plans",
    "resource_use",
    "sensitivity",
    "simulate",
    "speeds_of",
    "timeline",
    "trace",
]
