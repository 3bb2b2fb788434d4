"""Whether what a plan names is in it."""

from __future__ import annotations

from collections.abc import Iterator

from hetc.backends.dataflow.schema import Block, Plan
from hetc.backends.dataflow.steps import Advance, Execute, Loop
from hetc.errors import PlanError


def check_names(plan: Plan) -> None:
    """Require that every id is defined once, and every id that is used is defined.

    Raises PlanError (HETC-L314).
    """
    blocks = [block.id for block in plan.blocks]
    sections = [part.id for part in plan.sections]
    stages = [stage.id for block in plan.blocks for stage in block.stages]
    streams = [stream.id for block in plan.blocks for stream in block.streams]
    for kind, names in (("block", blocks), ("section", sections), ("stage", stages)):
        if len(set(names)) < len(names):
            raise _wrong(kind, "ids that differ", ", ".join(names))
    known = {"block": blocks, "section": sections, "stage": stages, "stream": streams}
    for kind, name, user in _used(plan):
        if name not in known[kind]:
            raise _wrong(user, f"a {kind} of the plan", name)
    for block in plan.blocks:
        _check_block(block)


def _check_block(block: Block) -> None:
    for stage in block.stages:
        own = [stream.id for stream in block.streams if stream.stage == stage.id]
        if sorted(own) != sorted(stage.streams):
            raise _wrong(stage.id, ", ".join(stage.streams) or "no streams", ", ".join(own))
    homes = {stage.id for stage in block.stages}
    for stream in block.streams:
        if stream.stage not in homes:
            raise _wrong(stream.id, f"a stage of {block.id}", stream.stage)
        if stream.tile_bytes < 1 or not stream.tensors:
            found = f"{stream.tile_bytes} bytes of {', '.join(stream.tensors) or 'nothing'}"
            raise _wrong(stream.id, "tiles of at least one byte of a tensor", found)
    for issue in block.issue:
        if not 0 <= issue.ahead < block.repeat:
            raise _wrong(issue.stream, "an iteration of its block", f"{issue.ahead} ahead")


def _used(plan: Plan) -> Iterator[tuple[str, str, str]]:
    """Kind and name of what is used, and who uses it."""
    for block in plan.blocks:
        for stream in block.streams:
            yield "stage", stream.stage, stream.id
        for stage in block.stages:
            yield from (("stage", depends.stage, stage.id) for depends in stage.depends)
        yield from (("stream", issue.stream, f"the queue of {block.id}") for issue in block.issue)
        yield from (("stage", append.stage, append.tensor) for append in block.appends)
        yield from (("stage", buffer.producer, buffer.id) for buffer in block.buffers)
    for part in plan.sections:
        yield from (("stage", name, part.id) for name in part.stages)
    for item in plan.memory:
        yield "block", item.block, item.tensor
    for step in plan.program.steps:
        if isinstance(step, Loop):
            yield "block", step.block, "the program"
        for one in step.body if isinstance(step, Loop) else (step,):
            if not isinstance(one, Advance | Loop):
                yield "section", one.section, "the program"
            if isinstance(one, Execute):
                yield "block", one.block, "the program"


def _wrong(at: str, expected: object, found: object) -> PlanError:
    return PlanError(
        "HETC-L314",
        "the plan names what it does not define",
        at=at,
        expected=expected,
        found=found,
        do="plan the graph again",
    )
