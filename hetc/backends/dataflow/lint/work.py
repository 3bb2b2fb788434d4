"""The graph as a plan divides it: which stage makes a value, who reads it, and what it stands on.

A *root* is where a value comes from: a value that an op of a stage makes, an input of the graph, a
weight, or the result of a call. Views and constants that belong to no stage are looked through, and
so is `kv_append`: who reads the grown state reads the old one from memory and the new rows from
whoever makes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from hetc.backends.dataflow.schema import Block, Plan, Stage
from hetc.ir.dims import DimLike
from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.ir.ops.control import Call
from hetc.ir.ops.linear import Linear, MatMul
from hetc.ir.ops.quant import Dequantize, Unpack4
from hetc.ir.ops.sequence import KVAppend
from hetc.ir.ops.shape import View
from hetc.ir.ops.source import Source, Weight
from hetc.ir.ops.unary import Cast
from hetc.ir.text import graph_names
from hetc.ir.types import TensorType

Roots = tuple[Value, ...]


@dataclass(frozen=True)
class Task:
    """One stage of one iteration of a block."""

    block: str
    iteration: int
    stage: str


class Work:
    """Tables over the graph and the graphs that it calls."""

    def __init__(self, plan: Plan, graph: Graph) -> None:
        self.plan = plan
        self.main = graph
        names = graph_names([graph])
        self.graphs = {names[id(item)]: item for item in (*graph.subgraphs(), graph)}
        self._roots: dict[Value, Roots] = {}
        self._reads: dict[str, Roots] = {}
        self._stored: dict[tuple[str, Value], list[Value]] = {}

    def graph(self, block: Block) -> Graph:
        """The graph whose ops the stages of `block` count in."""
        return self.graphs[block.graph]

    def is_main(self, block: Block) -> bool:
        """Whether the block is of the main graph itself, not of a layer."""
        return self.graph(block) is self.main

    def ops(self, block: Block, stage: Stage) -> list[Op]:
        """The ops of a stage."""
        ops = self.graph(block).ops
        return [ops[index] for index in stage.ops]

    @cached_property
    def stage_of(self) -> dict[tuple[str, Op], str]:
        """(block, op) -> the stage that has it."""
        return {
            (block.id, op): stage.id
            for block in self.plan.blocks
            for stage in block.stages
            for op in self.ops(block, stage)
        }

    @cached_property
    def iteration_of(self) -> dict[Op, tuple[Block, int]]:
        """Call of the main graph -> the block and the iteration that are it."""
        return {
            self.main.ops[index]: (block, iteration)
            for block in self.plan.blocks
            for iteration, index in enumerate(block.calls)
        }

    def roots(self, value: Value) -> Roots:
        """Where `value` comes from, within its graph."""
        found = self._roots.get(value)
        if found is None:
            found = self._roots[value] = self._find_roots(value)
        return found

    def _find_roots(self, value: Value) -> Roots:
        op = value.op
        if op is None or isinstance(op, Weight | Call):
            return (value,)
        if op in self._assigned and not isinstance(op, KVAppend):
            return (value,)
        behind = [root for operand in op.operands for root in self.roots(operand)]
        return tuple(dict.fromkeys(behind))

    @cached_property
    def _assigned(self) -> frozenset[Op]:
        return frozenset(op for _, op in self.stage_of)

    def reads(self, block: Block, stage: Stage) -> Roots:
        """The roots that the ops of a stage read from outside of it."""
        if stage.id not in self._reads:
            ops = self.ops(block, stage)
            inside = set(ops)
            read = (value for op in ops for value in read_operands(op))
            roots = dict.fromkeys(root for value in read for root in self.roots(value))
            self._reads[stage.id] = tuple(root for root in roots if root.op not in inside)
        return self._reads[stage.id]

    # Memory: weights and states.

    @cached_property
    def states(self) -> frozenset[str]:
        """Inputs of the main graph that are handed on to the next token."""
        names = set(self.main.output_names)
        return frozenset(v.name for v in self.main.inputs if f"{v.name}.out" in names)

    def arguments(self, block: Block, formal: Value) -> list[Value]:
        """What the calls of a layer pass for `formal`, one an iteration."""
        place = self.graph(block).inputs.index(formal)
        return [self.main.ops[index].operands[place] for index in block.calls]

    def stored(self, block: Block, root: Value) -> list[Value]:
        """The weights or states of the main graph that `root` is, one an iteration.

        Empty where it is an activation.
        """
        key = block.id, root
        if key not in self._stored:
            self._stored[key] = self._find_stored(block, root)
        return self._stored[key]

    def _find_stored(self, block: Block, root: Value) -> list[Value]:
        if root.op is not None or self.is_main(block):
            return [root] * block.repeat if self._in_memory(root) else []
        passed = [self.roots(value) for value in self.arguments(block, root)]
        found = [roots[0] for roots in passed if len(roots) == 1]
        whole = len(found) == len(passed) and all(map(self._in_memory, found))
        return found if whole else []

    def _in_memory(self, value: Value) -> bool:
        return value.name in self.states if value.op is None else isinstance(value.op, Weight)

    def tensors(self, block: Block) -> dict[str, Value]:
        """The weights and states that stages of `block` read, by the name that the plan uses."""
        found = dict.fromkeys(root for stage in block.stages for root in self.reads(block, stage))
        return {stored_name(root): root for root in found if self.stored(block, root)}

    def product_rows(self, block: Block, name: str) -> DimLike | None:
        """N of the `linear` or `matmul` that multiplies by a stored matrix; None without one."""
        for op in self.graph(block).ops:
            if isinstance(op, Linear | MatMul):
                matrix, elements = op.operands[1], op.operands[1].size
                while isinstance(matrix.op, View | Cast | Dequantize | Unpack4):
                    if isinstance(matrix.op, Unpack4):
                        elements = matrix.op.x.size
                    matrix = matrix.op.operands[0]
                whole = matrix.rank == 2 and matrix.size == elements
                if whole and stored_name(matrix) == name:
                    return op.result.shape[-1]
        return None

    def tensor_type(self, block: Block, name: str) -> TensorType | None:
        """The type of an input of the block's graph, or of a weight in it."""
        return self._types[block.graph].get(name)

    @cached_property
    def _types(self) -> dict[str, dict[str, TensorType]]:
        return {
            name: {op.name: op.type for op in graph.ops if isinstance(op, Weight)}
            | {value.name: value.type for value in graph.inputs}
            for name, graph in self.graphs.items()
        }

    # Order: what must have been made before.

    def makers(self, block: Block, root: Value, iteration: int) -> Iterator[tuple[Task, Value]]:
        """Who makes `root`, a root in the graph of `block`, and as which value; none for what is
        stored."""
        if self.is_main(block):
            yield from self._main_makers(root)
        elif root.op is None:
            place = self.graph(block).inputs.index(root)
            call = self.main.ops[block.calls[iteration]]
            for behind in self.roots(call.operands[place]):
                yield from self._main_makers(behind)
        elif (block.id, root.op) in self.stage_of:
            yield Task(block.id, iteration, self.stage_of[block.id, root.op]), root

    def _main_makers(self, root: Value) -> Iterator[tuple[Task, Value]]:
        op = root.op
        if op is None:
            return
        if isinstance(op, Call) and op in self.iteration_of:
            block, iteration = self.iteration_of[op]
            for behind in self.roots(op.callee.outputs[root.index]):
                yield from self.makers(block, behind, iteration)
        for owner in self._main_blocks:
            if (owner, op) in self.stage_of:
                yield Task(owner, 0, self.stage_of[owner, op]), root

    @cached_property
    def _main_blocks(self) -> list[str]:
        return [block.id for block in self.plan.blocks if self.is_main(block)]

    @cached_property
    def needs(self) -> dict[Task, dict[Task, list[Value]]]:
        """Task -> the tasks whose results it reads, each with these results."""
        found: dict[Task, dict[Task, list[Value]]] = {}
        for block in self.plan.blocks:
            for stage in block.stages:
                roots = self.reads(block, stage)
                for iteration in range(block.repeat):
                    task = Task(block.id, iteration, stage.id)
                    made = found[task] = {}
                    for root in roots:
                        for maker, value in self.makers(block, root, iteration):
                            if maker != task:
                                made.setdefault(maker, []).append(value)
        return found

    @cached_property
    def passed(self) -> dict[tuple[str, str], list[Value]]:
        """(producer, consumer) -> the values that go from stage to stage."""
        found: dict[tuple[str, str], dict[Value, None]] = {}
        for task, needed in self.needs.items():
            for maker, values in needed.items():
                between = found.setdefault((maker.stage, task.stage), {})
                between.update(dict.fromkeys(values))
        return {pair: list(values) for pair, values in found.items()}


def stored_name(root: Value) -> str:
    """How a plan calls a weight or state: a formal of the layer, or the weight's own name."""
    return root.op.name if isinstance(root.op, Weight) else root.name


def read_operands(op: Op) -> Iterable[Value]:
    """The operands whose elements an op looks at; `kv_append` leaves old rows where they are."""
    return (op.new,) if isinstance(op, KVAppend) else op.operands


def computes(op: Op) -> bool:
    """Whether an op does something: it is no weight, constant, view or call."""
    return not isinstance(op, Source | View | Call)
