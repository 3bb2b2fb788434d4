"""Memory ports and buffers in one token: busy, stalled and starved, from a run of every tile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hetc.backends.dataflow.schema import Buffer, Plan
from hetc.backends.dataflow.simulate.engine import run_maxplus
from hetc.backends.dataflow.simulate.maxplus import Run
from hetc.backends.dataflow.simulate.speeds import Speeds
from hetc.backends.dataflow.simulate.stage import StageProcess
from hetc.backends.dataflow.simulate.tally import Outcome
from hetc.backends.dataflow.simulate.timing import Read
from hetc.backends.dataflow.simulate.unroll import unroll

_TOKENS = 3


@dataclass(frozen=True)
class PortUse:
    """Where a memory port's cycles of a token go; the four are all of them.

    `busy`: it carries its share of a tile, or new rows of a state. `stalled`: a stream of its own
    is next and waits for room. `starved`: it carries a tile, slower than it could, since memory
    gives no more. `idle`: others are served, or nothing.
    """

    port: int
    busy_cycles: float
    stalled_cycles: float
    starved_cycles: float
    idle_cycles: float


@dataclass(frozen=True)
class BufferUse:
    """A buffer of activations on the chip in a token, in cycles that may overlap.

    `busy`: it holds what somebody still reads. `stalled`: for want of room in it, and of nothing
    else, its producer waits. `starved`: for what is not in it, and for nothing else, a consumer
    waits; of several the one that waits the longest.
    """

    buffer: str
    depth_bytes: int
    busy_cycles: float
    stalled_cycles: float
    starved_cycles: float


@dataclass(frozen=True)
class ResourceUse:
    """All ports that something is bound to, and all buffers on the chip, in a token of `cycles`."""

    cycles: float
    ports: tuple[PortUse, ...]
    buffers: tuple[BufferUse, ...]


def resource_use(plan: Plan, speeds: Speeds) -> ResourceUse:
    """Simulate every tile of a few tokens and tell the last; raises as `simulate` does."""
    outcome, run = run_maxplus(unroll(plan, speeds), _TOKENS, skip=False)
    cycles = outcome.ends[-1] - outcome.ends[-2]
    return ResourceUse(
        cycles,
        tuple(_ports(plan, speeds, run, outcome, cycles)),
        tuple(_buffers(plan, run, cycles)),
    )


def _ports(
    plan: Plan, speeds: Speeds, run: Run, outcome: Outcome, cycles: float
) -> Iterator[PortUse]:
    timing, rate = run.timing, speeds.port_bytes_per_cycle
    streams = {stream.id: stream for block in plan.blocks for stream in block.streams}
    busy: dict[int, float] = {}
    served: dict[int, float] = {}
    stalled: dict[int, float] = {}
    times = [0] * len(timing.flows)
    for turn in timing.turns:
        for work in turn.work:
            for item in work:
                if isinstance(item, Read):
                    times[item.flow] += 1
    for flow, count, credit in zip(timing.flows, times, outcome.last.credit, strict=True):
        ports = dict.fromkeys(streams[flow.name].ports)
        taken = count * (flow.serve * (flow.tiles - 1) + flow.serve_last)
        for port in ports if flow.queue is not None else ():
            busy[port] = busy.get(port, 0.0) + count * flow.bytes / len(ports) / rate
            served[port] = served.get(port, 0.0) + taken
            stalled[port] = stalled.get(port, 0.0) + credit
    for port, nbytes in _written(plan):
        busy[port] = busy.get(port, 0.0) + nbytes / rate
        served[port] = served.get(port, 0.0) + nbytes / rate
    for port in sorted(busy):
        waits = stalled.get(port, 0.0)
        starved = max(0.0, served[port] - busy[port])
        yield PortUse(port, busy[port], waits, starved, cycles - busy[port] - waits - starved)


def _written(plan: Plan) -> Iterator[tuple[int, int]]:
    """Port and bytes of the rows that a token appends: by the first port of the stage."""
    for block in plan.blocks:
        ports = {stream.stage: stream.ports for stream in reversed(block.streams)}
        for append in block.appends:
            yield (ports.get(append.stage) or (0,))[0], block.repeat * append.bytes


def _buffers(plan: Plan, run: Run, cycles: float) -> Iterator[BufferUse]:
    index = {stage.name: number for number, stage in enumerate(run.timing.stages)}
    for block in plan.blocks:
        for buffer in block.buffers:
            if buffer.tier != "sram" or buffer.producer not in index:
                continue
            producer = run.stages[index[buffer.producer]]
            readers = [run.stages[index[name]] for name in buffer.consumers if name in index]
            yield BufferUse(
                buffer.id,
                buffer.depth_bytes,
                min(cycles, _held(run, producer, readers)),
                sum(_delay(run, producer, execution, buffer) for execution in _told(producer)),
                max((_starved(run, reader, producer.index) for reader in readers), default=0.0),
            )


def _starved(run: Run, reader: StageProcess, producer: int) -> float:
    return sum(_delay(run, reader, execution, producer) for execution in _told(reader))


def _told(process: StageProcess) -> range:
    """The executions of the last token, of which each token has as many."""
    count = len(process.ends)
    return range(count - count // _TOKENS, count)


def _held(run: Run, producer: StageProcess, readers: Sequence[StageProcess]) -> float:
    """How long there is a result of the last token that somebody reads later."""
    until: dict[int, float] = {}
    for reader in readers:
        waits = [wait for wait in reader.stage.waits if wait.stage == producer.index]
        for execution, end in enumerate(reader.ends):
            scheduled = run.scheduled[run.turn_of(reader.index, execution)]
            for wait in waits:
                read = run.execution(wait, scheduled)
                until[read] = max(until.get(read, 0.0), end)
    total, reached = 0.0, 0.0
    for execution in _told(producer):
        begin = max(reached, producer.firsts[execution])
        reached = max(begin, until.get(execution, begin))
        total += reached - begin
    return total


def _delay(run: Run, process: StageProcess, execution: int, by: int | Buffer) -> float:
    """How much later an execution begins than without one thing: what a stage (its number) makes,
    or the room in a buffer of its own."""
    stage = process.stage
    scheduled = run.scheduled[run.turn_of(process.index, execution)]
    sources = [
        None,
        *(wait.stage for wait in stage.waits),
        *(None for _ in stage.reads),
        *(room.buffer for room in stage.room),
    ]
    mine = by.id if isinstance(by, Buffer) else by
    awaited = 0.0
    others = process.ends[execution - 1] if execution else 0.0
    if process.groups > 1 and execution:
        others -= stage.latency
    wants = process.wants(scheduled, execution)
    for source, (times, number) in zip(sources, wants, strict=True):
        time = times[number] if number >= 0 else 0.0
        if source == mine:
            awaited = max(awaited, time)
        else:
            others = max(others, time)
    return max(0.0, awaited - others)
