"""Sharding: the sockets of a group hold every tensor once, or several times alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hetc.backends.dataflow.lint.facts import Facts
from hetc.backends.dataflow.lint.finding import Fault, Faults, rule
from hetc.backends.dataflow.lint.work import stored_name
from hetc.backends.dataflow.schema import ShardOf
from hetc.ir.dims import evaluate
from hetc.ir.ops.source import Weight
from hetc.ir.types import TensorType


@rule(
    "HETC-L260",
    "every weight and state has one shard, and parts that the sockets share evenly",
    "list each tensor of each block once; parts divide the sockets, groups divide the axis",
)
def shards(facts: Facts) -> Faults:
    sockets = facts.plan.target.sockets
    counted = Counter((shard.block, shard.tensor) for shard in facts.plan.shards)
    for (block_id, tensor), count in counted.items():
        if count > 1:
            text = f"{tensor} of {block_id} has {count} shards"
            yield Fault(f"shard of {tensor}", text, count, 1)
    for block in facts.plan.blocks if sockets > 1 else ():
        for name in facts.work.tensors(block):
            if not counted[block.id, name]:
                text = f"{name} of {block.id} has no shard"
                yield Fault(f"shard of {name}", text, 0, 1)
    for shard in facts.plan.shards:
        type = facts.work.tensor_type(facts.blocks[shard.block], shard.tensor)
        assert type is not None
        for text in _faults(facts, shard, type):
            yield Fault(f"shard of {shard.tensor}", f"{shard.tensor} of {shard.block} {text}")
    return f"{len(counted)} shards over {sockets} sockets"


def _faults(facts: Facts, shard: ShardOf, type: TensorType) -> Iterator[str]:
    sockets = facts.plan.target.sockets
    if sockets % shard.parts:
        yield f"is cut in {shard.parts} parts, which {sockets} sockets cannot share evenly"
    if shard.axis is None:
        if shard.parts != 1 or shard.groups != 1:
            yield f"is whole, and cut in {shard.parts} parts and {shard.groups} groups"
    elif shard.axis >= type.rank:
        yield f"is cut along axis {shard.axis}, it has {type.rank} axes"
    elif evaluate(type.shape[shard.axis], facts.sizes) % shard.groups:
        size = type.shape[shard.axis]
        yield f"holds {size} of axis {shard.axis}, which {shard.groups} groups do not divide"


@rule(
    "HETC-L261",
    "what the sockets hold of a tensor adds up to the model's",
    "state the axis and the parts that the graph was cut by",
)
def shard_shapes(facts: Facts) -> Faults:
    if facts.model is None:
        return "no model at hand"
    whole = {op.name: op.type for op in facts.model.ops if isinstance(op, Weight)}
    whole |= {value.name: value.type for value in facts.model.inputs}
    count = 0
    for block in facts.plan.blocks:
        for name, root in facts.work.tensors(block).items():
            shard = facts.shards.get((block.id, name))
            wanted = _whole(root.type, shard)
            for source in map(stored_name, dict.fromkeys(facts.work.stored(block, root))):
                count += 1
                if source in whole and whole[source] != wanted:
                    text = f"the shards of {source} add up to {wanted}, the model's is"
                    yield Fault(f"shard of {name}", f"{text} {whole[source]}")
    return f"{count} tensors"


def _whole(type: TensorType, shard: ShardOf | None) -> TensorType:
    if shard is None or shard.axis is None or shard.axis >= type.rank:
        return type
    shape = list(type.shape)
    shape[shard.axis] = shape[shard.axis] * shard.parts
    return TensorType(type.dtype, tuple(shape))
