"""Row groups: whether sequences can follow each other through the stages of a block."""

from __future__ import annotations

from collections.abc import Iterator

from hetc.backends.dataflow.lint.facts import Facts
from hetc.backends.dataflow.lint.finding import Fault, Faults, rule
from hetc.backends.dataflow.schema import Block
from hetc.ir.dims import DimLike, evaluate, symbols_of
from hetc.ir.op import Value


@rule(
    "HETC-L238",
    "row groups are equal, and pass through resident stages that read nothing of all sequences",
    "take row_groups that divide the batch, or 1",
)
def row_groups(facts: Facts) -> Faults:
    grouped = [block for block in facts.plan.blocks if block.row_groups > 1]
    for block in grouped:
        for text in (*_of_plan(facts, block), *_of_graph(facts, block)):
            yield Fault(f"block {block.id}", f"{block.row_groups} row groups of {block.id}: {text}")
    return f"{len(grouped)} blocks with row groups"


def _of_plan(facts: Facts, block: Block) -> Iterator[str]:
    batch = facts.plan.bindings.batch
    if batch % block.row_groups:
        yield f"the batch has {batch} sequences"
    launches = [step for step, _ in facts.executes if step.block == block.id]
    if len(launches) != 1 or any(step.launch_cycles for step in launches):
        yield "its stages are not on the chip together, or launched"
    if any(buffer.tier != "sram" for buffer in block.buffers):
        yield "a buffer passes through memory"
    for stream in block.streams:
        if stream.kind in ("expert", "lookup"):
            yield f"what {stream.id} reads hangs on all sequences"
        if stream.bytes % stream.parts(block.row_groups):
            yield f"{stream.id} has no equal parts"


def _of_graph(facts: Facts, block: Block) -> Iterator[str]:
    if facts.graph is None:
        return
    values = {
        value: None
        for stage in block.stages
        for op in facts.work.ops(block, stage)
        for value in (*op.operands, *op.results)
    }
    for value in values:
        if not _by_sequence(value):
            where = value.op.loc or value.op.kind if value.op else value.name
            yield f"{value.type} at {where} has sequences along another axis than the first"


def _by_sequence(value: Value) -> bool:
    """Whether the first axis, and no other, counts sequences, or none does."""
    if any("B" in symbols_of(dim) for dim in value.shape[1:]):
        return False
    return not value.shape or _is_multiple(value.shape[0])


def _is_multiple(dim: DimLike) -> bool:
    others = dict.fromkeys(symbols_of(dim) - {"B"}, 1)
    if "B" not in symbols_of(dim):
        return True
    one, three = (evaluate(dim, {**others, "B": count}) for count in (1, 3))
    return three == 3 * one
