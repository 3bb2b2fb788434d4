"""One token as a trace for Perfetto (ui.perfetto.dev) or chrome://tracing.

Trace Event Format (Chromium project, 2016): complete events `X` in microseconds, a lane for each
stage, queue and the link; counters `C` for the bytes that each stream holds. What is read for a
token ahead of it stands before 0, where the token before it ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hetc.backends.dataflow.schema import Plan
from hetc.backends.dataflow.simulate.engine import run_maxplus
from hetc.backends.dataflow.simulate.maxplus import LinkProcess, Run
from hetc.backends.dataflow.simulate.speeds import Speeds
from hetc.backends.dataflow.simulate.timing import Read
from hetc.backends.dataflow.simulate.unroll import unroll

Event = dict[str, Any]
Slice = tuple[str, float, float]


def trace(plan: Plan, speeds: Speeds, *, tokens: int = 3) -> dict[str, Any]:
    """The last of `tokens` tokens as JSON values, every tile of it simulated."""
    timing = unroll(plan, speeds)
    outcome, run = run_maxplus(timing, tokens, skip=False)
    start = outcome.ends[-2]
    lanes: list[tuple[str, Iterator[Slice]]] = [
        *((stage.name, _stage(run, index, tokens)) for index, stage in enumerate(timing.stages)),
        *((queue.tier, _queue(run, index, tokens)) for index, queue in enumerate(timing.queues)),
        ("peer link", _link(run, run.link, tokens)),
        *(
            (f"peer link, share of {timing.stages[stage].name}", _link(run, link, tokens))
            for stage, link in run.shares.items()
        ),
    ]
    events: list[Event] = [_name("process_name", 0, f"{plan.target.name}, one socket")]
    for lane, (name, slices) in enumerate(lanes):
        events.append(_name("thread_name", lane, name))
        for label, begin, end in slices:
            events.append(
                {
                    "ph": "X",
                    "pid": 0,
                    "tid": lane,
                    "name": label,
                    "ts": speeds.us(begin - start),
                    "dur": speeds.us(end - begin),
                }
            )
    for flow in range(len(timing.flows)):
        name = f"{timing.flows[flow].name} bytes"
        for time, held in _held(run, flow, tokens):
            at = speeds.us(time - start)
            events.append({"ph": "C", "pid": 0, "name": name, "ts": at, "args": {"held": held}})
    return {"displayTimeUnit": "ns", "traceEvents": events}


def _name(kind: str, lane: int, name: str) -> Event:
    return {"ph": "M", "pid": 0, "tid": lane, "name": kind, "args": {"name": name}}


def _last_token(count: int, tokens: int) -> range:
    """The indices of the last token's events, of which each token has the same number."""
    return range(count - count // tokens, count)


def _stage(run: Run, index: int, tokens: int) -> Iterator[Slice]:
    """Its executions, and in them the tiles that it takes."""
    process = run.stages[index]
    for execution in _last_token(len(process.ends), tokens):
        yield process.name, process.gates[execution], process.ends[execution]
        for number in process.stage.flows:
            flow = run.timing.flows[number]
            for tile in range(execution * flow.tiles, (execution + 1) * flow.tiles):
                last = tile % flow.tiles == flow.tiles - 1
                taken = run.passed[number][tile]
                yield flow.name, taken - (flow.take_last if last else flow.take), taken


def _queue(run: Run, index: int, tokens: int) -> Iterator[Slice]:
    """Each stream of a turn from its first tile to its last, and each move."""
    timing = run.timing
    latency = timing.queues[index].latency
    next_tile = [len(times) // tokens * (tokens - 1) for times in run.arrived]
    next_move = [len(times) // tokens * (tokens - 1) for times in run.moved]
    for turn in timing.turns:
        for item in turn.work[index]:
            if isinstance(item, Read):
                flow = timing.flows[item.flow]
                first, last = next_tile[item.flow], next_tile[item.flow] + flow.tiles - 1
                next_tile[item.flow] += flow.tiles
                serve = flow.serve if flow.tiles > 1 else flow.serve_last
                arrived = run.arrived[item.flow]
                yield flow.name, arrived[first] - latency - serve, arrived[last] - latency
            else:
                end = run.moved[item.index][next_move[item.index]] - item.latency
                next_move[item.index] += 1
                yield item.name, end - item.serve, end


def _link(run: Run, link: LinkProcess, tokens: int) -> Iterator[Slice]:
    """Each exchange, from when the link is its own."""
    times = link.times
    for exchange in _last_token(len(times), tokens):
        stage, execution = link.order[exchange]
        before = times[exchange - 1] if exchange else 0.0
        begin = max(run.stages[stage].gates[execution], before)
        yield run.stages[stage].name, begin, times[exchange]


def _held(run: Run, index: int, tokens: int) -> Iterator[tuple[float, int]]:
    """When the bytes that a stream holds change, and what they are from then on."""
    flow = run.timing.flows[index]
    if flow.queue is None:
        return
    latency = run.timing.queues[flow.queue].latency
    changes: list[tuple[float, int]] = []
    for tile in _last_token(len(run.taken[index]), tokens):
        last = tile % flow.tiles == flow.tiles - 1
        size, serve = (flow.last_bytes, flow.serve_last) if last else (flow.tile_bytes, flow.serve)
        changes.append((run.arrived[index][tile] - latency - serve, size))
        changes.append((run.taken[index][tile], -size))
    held = 0
    for time, change in sorted(changes):
        held += change
        yield time, held
