"""What flows in one iteration: the bytes that the graph says, through stores that can hold a tile.

A plan is a synchronous dataflow graph (Lee & Messerschmitt 1987): each iteration puts on a stream
or a buffer what the same iteration takes off it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from hetc.backends.dataflow.lint.facts import Facts
from hetc.backends.dataflow.lint.finding import Fault, Faults, number, rule
from hetc.backends.dataflow.lint.work import stored_name
from hetc.backends.dataflow.schema import Block, Stream
from hetc.ir.dims import evaluate
from hetc.ir.op import Op, Value
from hetc.ir.ops.linear import ExpertLinear
from hetc.ir.ops.quant import Dequantize
from hetc.ir.ops.shape import View
from hetc.ir.ops.unary import Cast


@rule(
    "HETC-L230",
    "the credits of a stream hold two of its tiles, or all of it, and all that row groups share",
    "raise depth_bytes, or make tiles smaller",
)
def credits(facts: Facts) -> Faults:
    for stream in facts.streams.values():
        groups = facts.block_of[stream.stage].row_groups
        shared = stream.parts(groups) < groups
        least = stream.bytes if shared else min(stream.bytes, 2 * stream.tile_bytes)
        if stream.depth_bytes < least:
            text = f"stream {stream.id} has {number(stream.depth_bytes)} bytes of credits"
            what = f"what {groups} row groups share is" if shared else "two tiles or all of it are"
            text += f", {what} {number(least)}"
            yield Fault(f"stream {stream.id}", text, stream.depth_bytes, least)
    return f"{len(facts.streams)} streams"


@rule(
    "HETC-L231",
    "a buffer holds a tile, and all of it where a consumer waits for the end of the producer",
    "raise depth_bytes, make tiles smaller, or let the consumer depend by stream",
)
def buffer_depth(facts: Facts) -> Faults:
    buffers = [buffer for block in facts.plan.blocks for buffer in block.buffers]
    for buffer in buffers:
        barrier = any(
            depends.stage == buffer.producer and depends.kind == "barrier"
            for consumer in buffer.consumers
            for depends in facts.stages[consumer].depends
        )
        least = buffer.bytes if barrier else min(buffer.bytes, buffer.tile_bytes)
        if buffer.depth_bytes < least:
            text = f"buffer {buffer.id} holds {number(buffer.depth_bytes)} bytes"
            text += f", {'all' if barrier else 'a tile'} of it is {number(least)}"
            yield Fault(f"buffer {buffer.id}", text, buffer.depth_bytes, least)
    return f"{len(buffers)} buffers"


@rule(
    "HETC-L232",
    "what shares a memory unit has banks of its own",
    "merge streams of the stage, or give it output units",
    severity="advice",
)
def banks(facts: Facts) -> Faults:
    bound = int(facts.grid.memory_banks.value)
    most = 0
    for block in facts.plan.blocks:
        made = Counter(buffer.producer for buffer in block.buffers if buffer.tier == "sram")
        for stage in block.stages:
            with_lanes = len(stage.streams) + (0 if stage.units.outputs else made[stage.id])
            used = max(with_lanes, made[stage.id])
            most = max(most, used)
            if used > bound:
                text = f"a memory unit of stage {stage.id} holds {used} streams and buffers"
                yield Fault(f"stage {stage.id}", f"{text} in {bound} banks", used, bound)
    return f"{most} of {bound} banks"


@rule(
    "HETC-L233",
    "a stage streams the weights and states that its ops read, each once from each tier",
    "let a stream of the stage name the tensor, one for each tier that it lies in",
)
def streamed(facts: Facts) -> Faults:
    work = facts.work
    resident = {(item.block, item.tensor) for item in facts.plan.memory if item.tier == "sram"}
    tiers = _tiers(facts)
    total = 0
    for block in facts.plan.blocks:
        for stage in block.stages:
            roots = work.reads(block, stage)
            read = {stored_name(root) for root in roots if work.stored(block, root)}
            named = Counter(name for s in stage.streams for name in facts.streams[s].tensors)
            total += len(read)
            for name in sorted(read):
                resting = (block.id, name) in resident
                wanted = max(1, len(tiers.get((block.id, name), ())))
                if named[name] != wanted and not (resting and not named[name]):
                    text = f"stage {stage.id} reads {name}, which {named[name]} of its streams name"
                    yield Fault(f"stage {stage.id}", text, named[name], wanted)
            for name in sorted(named.keys() - read):
                text = f"stage {stage.id} streams {name}, which none of its ops reads"
                yield Fault(f"stage {stage.id}", text)
    return f"{total} tensors"


@rule(
    "HETC-L234",
    "a stream moves the bytes of its tensors",
    "state the bytes of the tensors at the sizes of the plan",
)
def stream_bytes(facts: Facts) -> Faults:
    moved = 0
    for block in facts.plan.blocks:
        for stream in block.streams:
            moved += stream.bytes * block.repeat
            low, high = _bytes_between(facts, block, stream)
            if not low <= stream.bytes <= high:
                wanted = number(low) if low == high else f"{number(low)} to {number(high)}"
                text = f"stream {stream.id} moves {number(stream.bytes)} bytes an iteration"
                bound = low if stream.bytes < low else high
                place = f"stream {stream.id}"
                yield Fault(place, f"{text}, its tensors are {wanted}", stream.bytes, bound)
    return f"{number(moved)} bytes a token"


def _tiers(facts: Facts) -> dict[tuple[str, str], Counter[str]]:
    """(block, tensor) -> the bytes of it that each tier holds; tables apart, of which rows are
    read."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for item in facts.plan.memory:
        if item.use != "table":
            found.setdefault((item.block, item.tensor), Counter())[item.tier] += item.bytes
    return found


def _bytes_between(facts: Facts, block: Block, stream: Stream) -> tuple[int, int]:
    """The least and the most that one iteration of a stream can move.

    Chosen experts lie between those of one token and one matrix for every row. A tensor that lies
    in several tiers is read in parts, whose bytes are rounded.
    """
    low = high = 0
    tiers = _tiers(facts)
    for name in stream.tensors:
        type = facts.work.tensor_type(block, name)
        assert type is not None
        whole = evaluate(type.nbytes, facts.sizes)
        readers = _readers(facts, block, stream, name)
        if stream.kind == "lookup":
            whole = sum(evaluate(op.results[0].nbytes, facts.sizes) for op in readers)
        least = whole
        if stream.kind == "expert":
            count = evaluate(type.shape[0], facts.sizes)
            rows = _expert_rows(facts, readers) or count
            shard = facts.shards.get((block.id, name))
            parts = shard.parts if shard is not None and shard.axis == 0 else 1
            picks = rows / facts.plan.bindings.batch / parts
            least = math.floor(whole * min(picks, count) / count)
            whole = math.ceil(whole * min(rows, count) / count)
        held = tiers.get((block.id, name), Counter())
        if len(held) > 1 and stream.kind != "lookup":
            part = held[stream.tier] / held.total()
            least, whole = math.floor(least * part) - 1, math.ceil(whole * part) + 1
        low, high = low + least, high + whole
    return low, high


def _readers(facts: Facts, block: Block, stream: Stream, name: str) -> list[Op]:
    """The ops of the stream's stage that read a tensor."""

    def reads(value: Value) -> bool:
        return any(stored_name(root) == name for root in facts.work.roots(value))

    found: list[Op] = []
    turned: set[Value] = set()
    for op in facts.work.ops(block, facts.stages[stream.stage]):
        if any(value in turned or reads(value) for value in op.operands):
            found.append(op)
            # Whoever reads what only turns the tensor on its way, reads the tensor.
            if isinstance(op, View | Cast | Dequantize):
                turned.update(op.results)
    return found


def _expert_rows(facts: Facts, readers: list[Op]) -> int:
    products = [op for op in readers if isinstance(op, ExpertLinear)]
    return max((evaluate(op.x.shape[0], facts.sizes) for op in products), default=0)


@rule(
    "HETC-L235",
    "what one stage makes and another reads goes through a buffer",
    "add a buffer from the producer to the consumer",
)
def buffered(facts: Facts) -> Faults:
    pairs = {
        (buffer.producer, consumer)
        for block in facts.plan.blocks
        for buffer in block.buffers
        for consumer in buffer.consumers
    }
    for producer, consumer in sorted(facts.work.passed.keys() - pairs):
        text = f"stage {consumer} reads what {producer} makes, and no buffer is between them"
        yield Fault(f"stage {consumer}", text)
    for producer, consumer in sorted(pairs - facts.work.passed.keys()):
        text = f"a buffer goes from {producer} to {consumer}, which reads nothing of it"
        yield Fault(f"stage {consumer}", text)
    return f"{len(facts.work.passed)} pairs of stages"


@rule(
    "HETC-L236",
    "a buffer carries what its producer makes and its consumers read",
    "state the bytes of the values at the sizes of the plan",
)
def buffer_bytes(facts: Facts) -> Faults:
    passed = facts.work.passed
    carried: Counter[tuple[str, str]] = Counter()
    held: Counter[str] = Counter()
    for block in facts.plan.blocks:
        for buffer in block.buffers:
            held[buffer.producer] += buffer.bytes
            values: dict[Value, None] = {}
            for consumer in buffer.consumers:
                values.update(dict.fromkeys(passed.get((buffer.producer, consumer), ())))
                carried[buffer.producer, consumer] += buffer.bytes
            most = _nbytes(facts, values)
            if values and buffer.bytes > most:
                text = f"buffer {buffer.id} carries {number(buffer.bytes)} bytes an iteration"
                text += f", its consumers read {number(most)}"
                yield Fault(f"buffer {buffer.id}", text, buffer.bytes, most)
    for (producer, consumer), read in passed.items():
        least, found = _nbytes(facts, read), carried[producer, consumer]
        if (producer, consumer) in carried and found < least:
            text = f"buffers carry {number(found)} bytes from {producer} to {consumer}"
            text += f", which reads {number(least)}"
            yield Fault(f"stage {consumer}", text, found, least)
    for producer, values in _made(facts).items():
        least = _nbytes(facts, values)
        if producer in held and held[producer] < least:
            text = f"the buffers of {producer} hold {number(held[producer])} bytes"
            text += f", others read {number(least)} of it"
            yield Fault(f"stage {producer}", text, held[producer], least)
    return f"{number(held.total())} bytes"


def _made(facts: Facts) -> dict[str, dict[Value, None]]:
    """Stage -> what others read of it."""
    found: dict[str, dict[Value, None]] = {}
    for (producer, _), values in facts.work.passed.items():
        found.setdefault(producer, {}).update(dict.fromkeys(values))
    return found


def _nbytes(facts: Facts, values: Iterable[Value]) -> int:
    return sum(evaluate(value.nbytes, facts.sizes) for value in values)
