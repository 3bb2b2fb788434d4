"""The order of the memory queue, and whether anything can wait for itself.

A queue serves its entries in order. An entry ends when all its tiles have left, and so waits for
room among the stream's credits, which comes free as the stage takes tiles, which it does once what
it depends on has run. A producer likewise waits for room in its buffers. Credits and buffers that
hold an iteration or more put that wait off by as many iterations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from hetc.backends.dataflow.lint.cycles import find_cycle, followers_last
from hetc.backends.dataflow.lint.facts import Facts
from hetc.backends.dataflow.lint.finding import Fault, Faults, rule
from hetc.backends.dataflow.lint.order import waits_within
from hetc.backends.dataflow.schema import Block, Buffer, Stage, Stream

# (what, name, iteration): `issue` of a stream is over, a stage has `begun`, a stage has `ended`.
Event = tuple[str, str, int]


@rule(
    "HETC-L270",
    "the memory queue issues every stream once an iteration",
    "list each stream that is read from memory once",
)
def issued(facts: Facts) -> Faults:
    for block in facts.plan.blocks:
        counted = Counter(issue.stream for issue in block.issue)
        for stream in block.streams:
            wanted = int(stream.tier != "sram")
            if counted[stream.id] != wanted:
                text = f"the queue of {block.id} issues stream {stream.id} of {stream.tier}"
                text += f" {counted[stream.id]} times an iteration, not {wanted}"
                yield Fault(f"issue of {block.id}", text, counted[stream.id], wanted)
    return f"{sum(len(block.issue) for block in facts.plan.blocks)} entries"


@rule(
    "HETC-L272",
    "streams are issued in the order in which their stages run, or have room for all bytes",
    "issue the stream of the earlier stage first, or raise depth_bytes",
    severity="advice",
)
def issue_order(facts: Facts) -> Faults:
    count = 0
    for block in facts.plan.blocks:
        behind = _dependences_behind(block)
        streams = {stream.id: stream for stream in block.streams}
        for place, issue in enumerate(block.issue):
            stage = streams[issue.stream].stage
            for later in block.issue[place + 1 :]:
                count += 1
                held = streams[issue.stream].depth_bytes >= streams[issue.stream].bytes
                other = streams[later.stream].stage
                if not held and issue.ahead == later.ahead and other in behind[stage]:
                    text = f"{issue.stream} of {stage} is issued before {later.stream} of {other}"
                    text += f", and {stage} waits for {other}"
                    yield Fault(f"issue of {block.id}", text)
    return f"{count} pairs of entries"


def _dependences_behind(block: Block) -> dict[str, set[str]]:
    """Stage -> every stage that it waits for in its iteration."""
    edges = waits_within(block)
    found: dict[str, set[str]] = {}
    for name in followers_last(edges):
        found[name] = set(edges[name]).union(*(found.get(other, ()) for other in edges[name]))
    return found


@rule(
    "HETC-L271",
    "nothing waits for itself",
    "issue streams in the order in which their stages run, or raise depth_bytes on the circle",
)
def deadlock(facts: Facts) -> Faults:
    count = 0
    for block in facts.plan.blocks:
        waits = _waits(facts, block)
        count += len(waits)
        cycle = find_cycle(waits)
        if cycle:
            circle = " waits for ".join(map(_told, [*cycle, cycle[0]]))
            yield Fault(f"block {block.id}", f"a step of {block.id} deadlocks: {circle}")
    return f"{count} events"


def _told(event: Event) -> str:
    what, name, iteration = event
    told = {"issue": "the issue of", "begun": "the begin of", "ended": "the end of"}
    return f"{told[what]} {name} {iteration}"


def _waits(facts: Facts, block: Block) -> dict[Event, list[Event]]:
    """Event -> the events before it, over as many iterations as repeat a pattern of waiting."""
    streams = {stream.id: stream for stream in block.streams}
    ahead = max((issue.ahead for issue in block.issue), default=0)
    rounds = min(block.repeat, 3 + min(ahead, 8))
    waits: dict[Event, list[Event]] = {}
    for iteration in range(rounds):
        for stage in block.stages:
            waits.update(_stage_events(stage, iteration))
        for stream in block.streams:
            stage = facts.stages[stream.stage]
            waits["issue", stream.id, iteration] = _issue_waits(stage, stream, iteration)
        for buffer in block.buffers:
            end = "ended", buffer.producer, iteration
            waits[end] += _room(facts, buffer, iteration)
    for tier in dict.fromkeys(stream.tier for stream in block.streams):
        queue = list(_queue(block, streams, tier, rounds, ahead))
        for earlier, later in pairwise(queue):
            waits[later].append(earlier)
    return {event: [b for b in before if b in waits] for event, before in waits.items()}


def _stage_events(stage: Stage, iteration: int) -> dict[Event, list[Event]]:
    """A stage begins after what it waits for, and ends once its streams are there."""
    begun: Event = ("begun", stage.id, iteration)
    before: list[Event] = [("ended", stage.id, iteration - 1)]
    after: list[Event] = [begun, *(("issue", name, iteration) for name in stage.streams)]
    for depends in stage.depends:
        turn = iteration - depends.carried
        if depends.kind == "barrier":
            before.append(("ended", depends.stage, turn))
        else:
            before.append(("begun", depends.stage, turn))
            after.append(("ended", depends.stage, turn))
    return {begun: before, ("ended", stage.id, iteration): after}


def _issue_waits(stage: Stage, stream: Stream, iteration: int) -> list[Event]:
    """The last tile of a stream leaves when there are credits for it and its address is known."""
    what, _, turn = taken = _taken(stage.id, stream.bytes, stream.depth_bytes, iteration)
    waits: list[Event] = [taken]
    if stream.after is not None:
        waits.append(("ended", stream.after, iteration))
    if what == "begun":
        # A stage takes its streams in turn: this one drains when those before it are there.
        earlier = stage.streams[: stage.streams.index(stream.id)]
        waits += [("issue", name, turn) for name in earlier]
    return waits


def _room(facts: Facts, buffer: Buffer, iteration: int) -> Iterator[Event]:
    for consumer in buffer.consumers:
        depends = facts.stages[consumer].depends
        late = any(item.stage == buffer.producer and item.carried for item in depends)
        yield _taken(consumer, buffer.bytes, buffer.depth_bytes, iteration, late)


def _taken(stage: str, nbytes: int, depth: int, iteration: int, late: bool = False) -> Event:
    """What makes room for the last byte of an iteration in a store of `depth` bytes.

    A store of a whole number of iterations has room when an earlier one was taken to its end; any
    other when the stage has begun to take one. `late` consumers take an iteration in the next.
    """
    held, rest = divmod(depth, nbytes) if nbytes else (iteration + 1, 0)
    return "begun" if rest else "ended", stage, iteration - held + late


def _queue(
    block: Block, streams: dict[str, Stream], tier: str, rounds: int, ahead: int
) -> Iterator[Event]:
    """The entries of a tier's queue in order: `ahead` iterations before their turn."""
    for turn in range(-ahead, rounds):
        for issue in block.issue:
            iteration = turn + issue.ahead
            if 0 <= iteration < rounds and streams[issue.stream].tier == tier:
                yield "issue", issue.stream, iteration
