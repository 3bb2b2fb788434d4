"""What a plan is of, and whether all that it names exists. Other rules suppose that it does."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator

from hetc.backends.dataflow.lint.facts import Facts
from hetc.backends.dataflow.lint.finding import Fault, Faults, rule
from hetc.backends.dataflow.part import Part
from hetc.backends.dataflow.schema import (
    SCHEMA,
    Block,
    Section,
    Units,
)
from hetc.backends.dataflow.steps import Configure, Execute, Loop
from hetc.ir.ops.control import Call
from hetc.ir.text import print_graph

# Fields that may not be 0; no number of a plan is negative.
_POSITIVE = frozenset(
    {"batch", "context", "sockets", "repeat", "count", "tile_bytes", "chunks", "parts", "groups"}
    | {"split_k", "split_rows", "row_groups"}
)
# Other rules unroll iterations and name units one by one.
_COUNTED = frozenset({"repeat", "count", "ahead"})
_MOST = 100_000


@rule("HETC-L200", "the plan is of the schema that this hetc reads", "make the plan anew")
def schema(facts: Facts) -> Faults:
    found = facts.plan.schema
    if found != SCHEMA:
        yield Fault("plan", f"the plan is of schema {found}, not {SCHEMA}")
    return found


@rule(
    "HETC-L201",
    "the plan is for the target at hand",
    "plan anew for this target, or lint against the target that the plan names",
)
def target(facts: Facts) -> Faults:
    named, machine = facts.plan.target, facts.target
    if machine.device.grid is None:
        yield Fault("target", f"{machine.name} has no grid, so that no plan fits it")
    if named.sockets != machine.count:
        text = f"the plan is for {named.sockets} sockets, the target has {machine.count}"
        yield Fault("target", text, named.sockets, machine.count)
    if named.sha256 not in (machine.sha256, machine.device.sha256):
        text = f"the plan's target {named.name} has digest {named.sha256[:12]}"
        yield Fault("target", f"{text}, that at hand {machine.sha256[:12]}")
    return f"{machine.name}, digest {named.sha256[:12]}"


@rule("HETC-L202", "names are unique", "rename one of them")
def names(facts: Facts) -> Faults:
    plan = facts.plan
    kinds = {
        "block": [block.id for block in plan.blocks],
        "stage": [stage.id for block in plan.blocks for stage in block.stages],
        "stream": [stream.id for block in plan.blocks for stream in block.streams],
        "buffer": [buffer.id for block in plan.blocks for buffer in block.buffers],
        "section": [section.id for section in plan.sections],
    }
    kinds |= {f"net of {s.id}": [route.net for route in s.routes] for s in plan.sections}
    for kind, given in kinds.items():
        for name, count in Counter(given).items():
            if count > 1:
                yield Fault(f"{kind} {name}", f"{count} {kind}s are called {name}", count, 1)
    return ", ".join(f"{len(given)} {kind}s" for kind, given in list(kinds.items())[:5])


@rule("HETC-L203", "what the plan names exists", "name something that the plan defines")
def references(facts: Facts) -> Faults:
    known = {
        "block": set(facts.blocks),
        "stage": set(facts.stages),
        "stream": set(facts.streams),
        "section": set(facts.sections),
        "memory": {"sram", *(memory.name for memory in facts.target.device.memories)},
    }
    count = 0
    for place, kind, name in _references(facts):
        count += 1
        if name not in known[kind]:
            yield Fault(place, f"{place} names the {kind} {name}, which does not exist")
    for block in facts.plan.blocks:
        yield from _foreign(block)
    return f"{count} references"


def _references(facts: Facts) -> Iterator[tuple[str, str, str]]:
    """(who, what kind of thing, its name) of every reference but those into the graph."""
    plan = facts.plan
    for block in plan.blocks:
        for stage in block.stages:
            yield from ((f"stage {stage.id}", "stage", item.stage) for item in stage.depends)
            yield from ((f"stage {stage.id}", "stream", name) for name in stage.streams)
        for stream in block.streams:
            yield f"stream {stream.id}", "stage", stream.stage
            yield f"stream {stream.id}", "memory", stream.tier
            if stream.after is not None:
                yield f"stream {stream.id}", "stage", stream.after
        yield from ((f"issue of {block.id}", "stream", issue.stream) for issue in block.issue)
        yield from ((f"append of {item.tensor}", "stage", item.stage) for item in block.appends)
        for buffer in block.buffers:
            yield f"buffer {buffer.id}", "memory", buffer.tier
            for name in (buffer.producer, *buffer.consumers):
                yield f"buffer {buffer.id}", "stage", name
    for section in plan.sections:
        yield from ((f"section {section.id}", "stage", name) for name in section.stages)
    for step in plan.program.steps:
        for inner in (step, *(step.body if isinstance(step, Loop) else ())):
            if isinstance(inner, Loop | Execute):
                yield "the program", "block", inner.block
            if isinstance(inner, Configure | Execute):
                yield "the program", "section", inner.section
    for item in plan.memory:
        yield f"allocation of {item.tensor}", "memory", item.tier
        for name in (item.block, *item.live):
            yield f"allocation of {item.tensor}", "block", name
    yield from ((f"shard of {item.tensor}", "block", item.block) for item in plan.shards)


def _foreign(block: Block) -> Iterator[Fault]:
    """What belongs to a block but refers to another's."""
    stages = {stage.id for stage in block.stages}
    streams = {stream.id: stream.stage for stream in block.streams}
    for stage in block.stages:
        for name in stage.streams:
            if streams.get(name) != stage.id:
                text = f"stage {stage.id} takes the stream {name}, which is not its own"
                yield Fault(f"stage {stage.id}", text)
    taken = {name for stage in block.stages for name in stage.streams}
    for stream in block.streams:
        if stream.stage not in stages or stream.id not in taken:
            text = f"the stream {stream.id} is not taken by its stage {stream.stage}"
            yield Fault(f"stream {stream.id}", text)
    for issue in block.issue:
        if issue.stream not in streams:
            text = f"the queue of {block.id} issues {issue.stream}, a stream of another block"
            yield Fault(f"issue of {block.id}", text)
    owned = [(f"buffer {item.id}", item.producer) for item in block.buffers]
    owned += [(f"append of {item.tensor}", item.stage) for item in block.appends]
    for place, stage_id in owned:
        if stage_id not in stages:
            yield Fault(place, f"the {place} belongs to {stage_id}, a stage of another block")


@rule("HETC-L204", "numbers are finite and in range", "give a number within the range")
def numbers(facts: Facts) -> Faults:
    plan = facts.plan
    count = 0
    for place, part, field, value in _numbers(plan, "plan"):
        count += 1
        least = int(field in _POSITIVE)
        most = _MOST if field in _COUNTED or isinstance(part, Units) else math.inf
        if not least <= value <= most or math.isinf(value):
            text = f"{field} of {place} is {value}, outside of {least} to {most}"
            yield Fault(place, text, value, least if value < least else most)
    past, context = plan.bindings.past, plan.bindings.context
    if past >= context:
        text = f"a step after {past} tokens does not fit a context of {context}"
        yield Fault("bindings", text, past + 1, context)
    return f"{count} numbers"


def _numbers(part: Part, place: str) -> Iterator[tuple[str, Part, str, float]]:
    """(place, part, field, value) of every number in `part`, but for sites and routes."""
    for field in part.__struct_fields__:
        value = getattr(part, field)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, int | float):
                yield place, part, field, item
            elif isinstance(item, Part) and not isinstance(item, Section):
                yield from _numbers(item, _place(item, place))


def _place(part: Part, around: str) -> str:
    for field in ("id", "tensor", "stream", "name"):
        name = getattr(part, field, None)
        if isinstance(name, str):
            return f"{type(part).__name__.lower()} {name}"
    return around


@rule("HETC-L205", "the plan is for the graph at hand", "plan anew for this graph")
def digest(facts: Facts) -> Faults:
    found = hashlib.sha256(print_graph(facts.work.main).encode()).hexdigest()
    stated = facts.plan.graph_sha256
    if found != stated:
        text = f"the plan is of a graph with digest {stated[:12]}, that at hand has {found[:12]}"
        yield Fault("graph", text)
    return f"digest {stated[:12]}"


@rule(
    "HETC-L206",
    "what the plan names of the graph exists",
    "name a graph, op or tensor of the graph at hand",
)
def graph_references(facts: Facts) -> Faults:
    work = facts.work
    count = 0
    for block in facts.plan.blocks:
        count += 1
        if block.graph not in work.graphs:
            yield Fault(f"block {block.id}", f"there is no graph {block.graph}")
            continue
        is_layer = not work.is_main(block)
        if len(block.calls) != (block.repeat if is_layer else 0) or (
            not is_layer and block.repeat != 1
        ):
            text = f"{block.id} has {block.repeat} iterations of {len(block.calls)} calls"
            yield Fault(f"block {block.id}", text, block.repeat, len(block.calls))
        for index in block.calls:
            op = work.main.ops[index] if index < len(work.main.ops) else None
            if not isinstance(op, Call) or op.callee is not work.graph(block):
                text = f"op {index} of the main graph is no call of {block.graph}"
                yield Fault(f"block {block.id}", text)
        for place, index in _op_indices(block):
            count += 1
            if index >= len(work.graph(block).ops):
                text = f"{place} names op {index}, but {block.graph} ends before it"
                yield Fault(place, text, index, len(work.graph(block).ops) - 1)
        tensors = [(f"stream {s.id}", name) for s in block.streams for name in s.tensors]
        tensors += [(f"append of {item.tensor}", item.tensor) for item in block.appends]
        tensors += [
            (f"allocation of {item.tensor}", item.tensor)
            for item in facts.plan.memory
            if item.block == block.id
        ]
        tensors += [
            (f"shard of {item.tensor}", item.tensor)
            for item in facts.plan.shards
            if item.block == block.id
        ]
        for place, name in tensors:
            count += 1
            if work.tensor_type(block, name) is None:
                text = f"{place} names the tensor {name}, which {block.graph} does not have"
                yield Fault(place, text)
    return f"{count} names"


def _op_indices(block: Block) -> Iterator[tuple[str, int]]:
    for stage in block.stages:
        yield from ((f"stage {stage.id}", index) for index in stage.ops)
    yield from ((f"append of {item.tensor}", item.op) for item in block.appends)
