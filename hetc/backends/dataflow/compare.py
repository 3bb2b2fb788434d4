"""What differs between two plans, fact by fact.

Stages are paired by block and name, what belongs to them by what it moves, allocations by tensor:
ids are the planner's own. Places, routes and offsets differ by the hundred or not at all, so they
are counted. Left out are the tool that wrote a plan, the words of its reasons, and the numbers in
its checks, which follow from the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from hetc.backends.dataflow.part import Part
from hetc.backends.dataflow.schema import (
    Allocation,
    Block,
    Plan,
    Section,
)

# Group and name of a thing -> its fields: texts, numbers, lists and null.
Fields = dict[str, Any]
Facts = dict[tuple[str, str], Fields]
GROUPS = (
    "machine",
    "request",
    "estimate",
    "section",
    "block",
    "stage",
    "stream",
    "append",
    "buffer",
    "program",
    "memory",
    "shard",
    "check",
)


@dataclass(frozen=True)
class Difference:
    """One field that is not the same, null where one has no such; the field `there` where only one
    has such a thing at all."""

    group: str
    name: str
    field: str
    a: Any
    b: Any


def compare(a: Plan, b: Plan) -> tuple[Difference, ...]:
    """All differences, a kind of thing at a time; none for plans that say the same."""
    found = [*differences(facts(a), facts(b)), *_counted(a, b)]
    return tuple(sorted(found, key=lambda difference: GROUPS.index(difference.group)))


def differences(a: Facts, b: Facts) -> Iterator[Difference]:
    """What is not the same in both, in the order of `a` and then of `b`."""
    for thing in {**a, **b}:
        if thing not in a or thing not in b:
            yield Difference(*thing, "there", thing in a, thing in b)
            continue
        one, other = a[thing], b[thing]
        for field in {**one, **other}:
            if one.get(field) != other.get(field):
                yield Difference(*thing, field, one.get(field), other.get(field))


def facts(plan: Plan) -> Facts:
    """What a plan says, each thing under a name that another plan would give it too."""
    names = _stage_names(plan)
    found: Facts = {
        ("machine", "target"): _fields(plan.target),
        ("machine", "bindings"): _fields(plan.bindings),
        ("machine", "graph"): {"sha256": plan.graph_sha256},
        ("request", ""): _fields(plan.request),
        ("program", ""): _fields(plan.program),
    }
    if plan.estimate is not None:
        constants = {constant.name: constant.value for constant in plan.estimate.constants}
        found["estimate", ""] = _fields(plan.estimate, "constants")
        found["estimate", "constants"] = constants
    for section in plan.sections:
        own = _fields(section, "id", "stages", "sites", "routes")
        own["stages"] = [names[stage] for stage in section.stages]
        found["section", section.id] = own
    for block in plan.blocks:
        found |= _of_block(block, names)
    found |= _of_memory(plan)
    for shard in plan.shards:
        found["shard", f"{shard.block} {shard.tensor}"] = _fields(shard, "block", "tensor")
    for check in plan.checks:
        found["check", check.code] = {"ok": check.ok}
    return found


def _fields(part: Part, *without: str) -> Fields:
    """The fields of a part; those of parts inside of it have names with dots: `steps.1.count`."""
    tag = part.__struct_config__.tag
    found: Fields = {} if tag is None else {"type": tag}
    for field in part.__struct_fields__:
        value = getattr(part, field)
        if field in without:
            continue
        if isinstance(value, Part):
            inside = {field: value}
        elif isinstance(value, tuple) and value and isinstance(value[0], Part):
            inside = {f"{field}.{number}": item for number, item in enumerate(value)}
        else:
            found[field] = msgspec.to_builtins(value)
            continue
        for name, item in inside.items():
            found |= {f"{name}.{inner}": leaf for inner, leaf in _fields(item).items()}
    return found


def _stage_names(plan: Plan) -> dict[str, str]:
    """Id -> block and name of every stage; of several with one name, their number."""
    given = [
        (stage.id, f"{block.id} {stage.name}") for block in plan.blocks for stage in block.stages
    ]
    return dict(zip((id for id, _ in given), _apart([name for _, name in given]), strict=True))


def _stream_names(block: Block, names: Mapping[str, str]) -> dict[str, str]:
    """Id -> stage and first tensor of every stream of a block."""
    given = [f"{names[stream.stage]}: {stream.tensors[0]}" for stream in block.streams]
    return dict(zip((stream.id for stream in block.streams), _apart(given), strict=True))


def _apart(names: list[str]) -> Iterator[str]:
    """Names with a number behind the second and later ones that are alike."""
    seen: Counter[str] = Counter()
    for name in names:
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name} #{seen[name]}"


def _of_block(block: Block, names: Mapping[str, str]) -> Facts:
    """A block, its stages, and what they read, write and hand on."""
    streams = _stream_names(block, names)
    own = _fields(block, "id", "stages", "streams", "issue", "appends", "buffers")
    own["issue"] = [[streams[issue.stream], issue.ahead] for issue in block.issue]
    found: Facts = {("block", block.id): own}
    for stage in block.stages:
        fields = _fields(stage, "id", "name", "streams", "depends")
        fields["depends"] = [[names[on.stage], on.kind, on.carried] for on in stage.depends]
        found["stage", names[stage.id]] = fields
    for stream in block.streams:
        fields = _fields(stream, "id", "stage", "why", "after")
        fields["after"] = None if stream.after is None else names[stream.after]
        found["stream", streams[stream.id]] = fields
    for append in block.appends:
        name = f"{names[append.stage]}: {append.tensor}"
        found["append", name] = _fields(append, "stage", "tensor")
    for buffer in block.buffers:
        fields = _fields(buffer, "id", "producer", "consumers", "why")
        fields["consumers"] = [names[reader] for reader in buffer.consumers]
        found["buffer", names[buffer.producer]] = fields
    return found


def _of_memory(plan: Plan) -> Facts:
    """What each tier holds, and every allocation but for where it lies."""
    held: Counter[str] = Counter()
    for item in plan.memory:
        held[item.tier] += item.bytes * item.count
    found: Facts = {("memory", tier): {"bytes": nbytes} for tier, nbytes in sorted(held.items())}
    for name, item in _allocations(plan).items():
        found["memory", name] = _fields(item, "block", "tensor", "use", "offset")
    return found


def _allocations(plan: Plan) -> dict[str, Allocation]:
    names = _apart([f"{item.block} {item.tensor}, {item.use}" for item in plan.memory])
    return dict(zip(names, plan.memory, strict=True))


def _counted(a: Plan, b: Plan) -> Iterator[Difference]:
    """Units, nets and tensors that both have, and that are elsewhere in the other."""
    others = {section.id: section for section in b.sections}
    for section in a.sections:
        if section.id in others:
            yield from _moved(section, others[section.id])
    before, after = _allocations(a), _allocations(b)
    both = before.keys() & after.keys()
    moved = sum(before[name].offset != after[name].offset for name in both)
    if moved:
        yield Difference("memory", "all", "tensors at other offsets", 0, moved)


def _moved(a: Section, b: Section) -> Iterator[Difference]:
    units = sum(a.sites[unit] != b.sites[unit] for unit in a.sites.keys() & b.sites.keys())
    if units:
        yield Difference("section", a.id, "units on other sites", 0, units)
    before, after = ({route.net: route for route in section.routes} for section in (a, b))
    nets = sum(before[net] != after[net] for net in before.keys() & after.keys())
    if nets:
        yield Difference("section", a.id, "nets on other routes", 0, nets)
    only = len(before.keys() - after.keys()), len(after.keys() - before.keys())
    if any(only):
        yield Difference("section", a.id, "nets that the other has not", *only)
