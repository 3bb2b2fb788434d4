"""Who makes the values that a stage reads: the ops that a plan names, on a socket's graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hetc.backends.dataflow.schema import Block, Buffer, Plan, Stage
from hetc.errors import PlanError
from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.ir.ops.control import Call
from hetc.ir.ops.sequence import KeepLast, KVAppend
from hetc.ir.ops.source import Weight

TOKENS, PAST, LOGITS, OUT = "tokens", "past", "logits", ".out"


@dataclass(frozen=True)
class Origin:
    """Where a value is from, in iteration `iteration` of `block`: made by `stage`, stored as
    `tensor`, or, with neither, an input from the host."""

    value: Value
    block: str = ""
    iteration: int = 0
    stage: str = ""
    tensor: str = ""


@dataclass(frozen=True, eq=False)
class Wired:
    """A block with the ops that its stages run."""

    block: Block
    graph: Graph
    calls: tuple[Call, ...]
    stages: Mapping[str, Stage]
    stage_of: Mapping[Op, str]
    stored: Mapping[Value, str]

    def ops(self, stage: Stage) -> tuple[Op, ...]:
        """The ops of a stage, in the order of the graph."""
        return tuple(self.graph.ops[place] for place in sorted(stage.ops))

    def value(self, tensor: str) -> Value:
        """The value of the graph that is stored as `tensor`."""
        return next(value for value, name in self.stored.items() if name == tensor)

    def outer_name(self, tensor: str, iteration: int) -> str:
        """What the socket's main graph calls a tensor in one iteration."""
        if not self.calls:
            return tensor
        value = self.calls[iteration].args[self.graph.inputs.index(self.value(tensor))]
        return value.op.name if isinstance(value.op, Weight) else value.name


class Wiring:
    """All blocks of a plan on the socket's graph `main`.

    Raises PlanError (HETC-L302) where the plan names ops that are not there, or leaves some out.
    """

    def __init__(self, plan: Plan, main: Graph) -> None:
        self.main = main
        self.blocks: dict[str, Wired] = {}
        self._call_at: dict[Op, tuple[str, int]] = {}
        self._block_of: dict[Op, str] = {}
        for block in plan.blocks:
            stored = {item.tensor for item in plan.memory if item.block == block.id}
            wired = _wire(block, main, stored)
            self.blocks[block.id] = wired
            self._call_at.update({call: (block.id, n) for n, call in enumerate(wired.calls)})
            if not wired.calls:
                self._block_of.update(dict.fromkeys(wired.stage_of, block.id))
        self.buffers: dict[str, Buffer] = {
            buffer.producer: buffer for block in plan.blocks for buffer in block.buffers
        }

    def origin(self, block: str, iteration: int, value: Value) -> Origin:
        """Where `value` of the graph of `block` is from."""
        wired = self.blocks[block]
        if value in wired.stored:
            return Origin(value, block, iteration, tensor=wired.stored[value])
        if value.op is not None and value.op in wired.stage_of:
            return Origin(value, block, iteration, stage=wired.stage_of[value.op])
        if value.op is None and wired.calls:
            return self.outer(wired.calls[iteration].args[wired.graph.inputs.index(value)])
        return self.outer(value)

    def outer(self, value: Value) -> Origin:
        """Where a value of the main graph is from."""
        if value.op is None and value.name in (TOKENS, PAST):
            return Origin(value)
        if isinstance(value.op, Call) and value.op in self._call_at:
            block, iteration = self._call_at[value.op]
            return self.origin(block, iteration, value.op.callee.outputs[value.index])
        if value.op in self._block_of:
            return self.origin(self._block_of[value.op], 0, value)
        raise PlanError(
            "HETC-L302",
            "a value is read that no stage makes and no memory holds",
            at=value.op.loc or value.op.kind if value.op else value.name,
            do="plan the graph again",
        )

    def reads(self, wired: Wired, stage: Stage) -> Iterator[Value]:
        """What the ops of `stage` read of others. Of a grown state that is its new rows."""
        inside = set(wired.ops(stage))
        for op in wired.ops(stage):
            operands = [op.new] if isinstance(op, KVAppend) else list(op.operands)
            for value in operands:
                if isinstance(value.op, KVAppend):
                    value = value.op.new
                if value.op not in inside and value not in wired.stored:
                    yield value

    def origins(self, wired: Wired, stage: Stage) -> Iterator[tuple[int, Origin]]:
        """Where what a stage reads is from, in its first iteration and in one after another."""
        for iteration in range(min(2, wired.block.repeat)):
            for value in self.reads(wired, stage):
                yield iteration, self.origin(wired.block.id, iteration, value)

    def state_out(self, block: str, iteration: int, tensor: str) -> tuple[Value, KeepLast | None]:
        """The value of the block's graph that becomes a state, and the op that cuts it to size."""
        wired = self.blocks[block]
        outputs = dict(zip(self.main.output_names, self.main.outputs, strict=True))
        value = outputs[wired.outer_name(tensor, iteration) + OUT]
        value, outside = _uncut(value)
        if isinstance(value.op, Call):
            value, inside = _uncut(value.op.callee.outputs[value.index])
            outside = outside or inside
        return value, outside


def _uncut(value: Value) -> tuple[Value, KeepLast | None]:
    return (value.op.x, value.op) if isinstance(value.op, KeepLast) else (value, None)


def op_at(graph: Graph, place: int) -> Op | None:
    """An op by its number, None where there is no such op."""
    return graph.ops[place] if 0 <= place < len(graph.ops) else None


def _wire(block: Block, main: Graph, tensors: set[str]) -> Wired:
    calls: list[Call] = []
    for place in block.calls:
        op = op_at(main, place)
        if not isinstance(op, Call) or op.callee.name != block.graph:
            raise _wrong_ops(block, f"op {place} calls {block.graph}", op)
        calls.append(op)
    graph = calls[0].callee if calls else main
    if graph.name != block.graph or block.repeat != max(1, len(calls)):
        found = f"{block.repeat} x {block.graph} in {len(calls)} calls"
        raise _wrong_ops(block, "as many calls of the graph as iterations", found)
    stage_of: dict[Op, str] = {}
    for stage in block.stages:
        for place in stage.ops:
            op = op_at(graph, place)
            if op is None or op in stage_of:
                raise _wrong_ops(block, "each op in one stage", f"op {place} in {stage.id}")
            stage_of[op] = stage.id
    values = [*graph.inputs, *(op.result for op in graph.ops if isinstance(op, Weight))]
    named = (
        (value, value.op.name if isinstance(value.op, Weight) else value.name) for value in values
    )
    stored = {value: name for value, name in named if name in tensors}
    missing = tensors - set(stored.values())
    if missing:
        raise _wrong_ops(block, f"tensors of {graph.name}", ", ".join(sorted(missing)))
    stages = {stage.id: stage for stage in block.stages}
    return Wired(block, graph, tuple(calls), stages, stage_of, stored)


def _wrong_ops(block: Block, expected: str, found: object) -> PlanError:
    return PlanError(
        "HETC-L302",
        "the plan's block is not a part of the graph",
        at=block.id,
        expected=expected,
        found=found,
        do="plan the graph again",
    )


def check_dependences(wiring: Wiring) -> None:
    """Require that a stage waits for every stage that it reads from, and is fed by its buffer.

    Raises PlanError (HETC-L303).
    """
    for wired in wiring.blocks.values():
        for stage in wired.block.stages:
            for iteration, origin in wiring.origins(wired, stage):
                if origin.stage:
                    carried = origin.block == wired.block.id and origin.iteration < iteration
                    _check_read(wiring, stage, origin, carried=carried)


def _check_read(wiring: Wiring, stage: Stage, origin: Origin, *, carried: bool) -> None:
    waits = {(depends.stage, depends.carried) for depends in stage.depends}
    buffer = wiring.buffers.get(origin.stage)
    if (origin.stage, carried) not in waits:
        expected = f"{stage.id} depends on {origin.stage}{' of the iteration before' * carried}"
    elif buffer is None or stage.id not in buffer.consumers:
        expected = f"a buffer from {origin.stage} to {stage.id}"
    else:
        return
    raise PlanError(
        "HETC-L303",
        "a stage reads a value that the plan does not bring to it",
        at=f"{stage.id} ({stage.name})",
        expected=expected,
        found=", ".join(f"{d.stage}{'^' * d.carried}" for d in stage.depends) or "no dependence",
        do="plan the graph again",
    )
