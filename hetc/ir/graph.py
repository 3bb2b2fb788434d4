"""Graphs: straight-line SSA, immutable. Programs: the graphs of a model and the state between;
a model without phases is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from hetc.ir.dims import DimLike
from hetc.ir.op import Op, Value
from hetc.ir.types import TensorType


@dataclass(frozen=True)
class Graph:
    """`ops` in an order in which every operand stands before its use."""

    name: str
    inputs: tuple[Value, ...]
    ops: tuple[Op, ...]
    outputs: tuple[Value, ...]
    output_names: tuple[str, ...] = ()

    def subgraphs(self) -> Iterator[Graph]:
        """Every graph that this one calls, callees first, each once."""
        seen: dict[int, Graph] = {}
        for op in self.ops:
            callee = getattr(op, "callee", None)
            if isinstance(callee, Graph) and id(callee) not in seen:
                for inner in callee.subgraphs():
                    seen.setdefault(id(inner), inner)
                seen[id(callee)] = callee
        yield from seen.values()

    def users(self) -> dict[Value, list[Op]]:
        """Value -> the ops that read it, in order, each once."""
        table: dict[Value, list[Op]] = {}
        for op in self.ops:
            for value in dict.fromkeys(op.operands):
                table.setdefault(value, []).append(op)
        return table

    def prune(self) -> Graph:
        """The graph without ops whose results nothing needs."""
        needed = set(self.outputs)
        kept: list[Op] = []
        for op in reversed(self.ops):
            if any(value in needed for value in op.results):
                needed.update(op.operands)
                kept.append(op)
        if len(kept) == len(self.ops):
            return self
        return Graph(self.name, self.inputs, tuple(reversed(kept)), self.outputs, self.output_names)


class GraphBuilder:
    """Collects ops in order. `add` also places the ops that its argument needs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: list[Value] = []
        self.ops: list[Op] = []
        self._placed: set[int] = set()

    def input(self, name: str, type: TensorType) -> Value:
        value = Value(type, name=name)
        self.inputs.append(value)
        return value

    def add(self, op: Op) -> Value:
        """Place `op` (and first whatever unplaced op it reads) and return its first result."""
        placed = self._placed
        stack = [op]
        while stack:
            item = stack[-1]
            if id(item) in placed:
                stack.pop()
                continue
            needed = [v.op for v in item.operands if v.op is not None and id(v.op) not in placed]
            if needed:
                stack.extend(reversed(needed))
            else:
                stack.pop()
                placed.add(id(item))
                self.ops.append(item)
        return op.results[0]

    def drop(self, count: int) -> None:
        """Take back every op but the first `count`."""
        self._placed.difference_update(map(id, self.ops[count:]))
        del self.ops[count:]

    def finish(self, outputs: Iterable[Value], output_names: Iterable[str] = ()) -> Graph:
        return Graph(
            self.name, tuple(self.inputs), tuple(self.ops), tuple(outputs), tuple(output_names)
        )


Rewriter = Callable[[Op], "Op | tuple[Value, ...] | None"]


def rebuild(
    graph: Graph, rewrite: Rewriter, *, name: str = "", inputs: tuple[Value, ...] | None = None
) -> Graph:
    """Walk `graph` once in order and build it anew.

    `rewrite` gets each op with its operands already rewritten. It answers None to keep the op,
    another op to put in its place, or the values that replace its results. New ops that those
    values need are placed by themselves. Ops that nothing needs any more are left out.
    """
    builder = GraphBuilder(name or graph.name)
    builder.inputs.extend(graph.inputs if inputs is None else inputs)
    new: dict[Value, Value] = dict(zip(graph.inputs, builder.inputs, strict=False))
    for op in graph.ops:
        current = op.map_operands(lambda value: new.get(value, value))
        answer = rewrite(current)
        if answer is None:
            answer = current
        values = answer.results if isinstance(answer, Op) else answer
        for old, value in zip(op.results, values, strict=True):
            if value.op is not None:
                builder.add(value.op)
            new[old] = value
    outputs = tuple(new.get(value, value) for value in graph.outputs)
    return builder.finish(outputs, graph.output_names).prune()


def substitute_dims(graph: Graph, values: Mapping[str, DimLike], *, name: str = "") -> Graph:
    """The graph with symbols replaced: in types, in attributes, in the graphs that it calls."""
    callees = {id(callee): callee for callee in graph.subgraphs()}
    done: dict[int, Graph] = {}
    # Callees come first, so that a caller finds those that it calls already done.
    for key, callee in callees.items():
        done[key] = _substitute_ops(callee, values, done, callee.name)
    return _substitute_ops(graph, values, done, name or graph.name)


def _substitute_ops(
    graph: Graph, values: Mapping[str, DimLike], done: Mapping[int, Graph], name: str
) -> Graph:
    builder = GraphBuilder(name)
    new = {v: builder.input(v.name, v.type.substitute(values)) for v in graph.inputs}
    for op in graph.ops:
        # In one step: between new operands and old attributes an op may not fit.
        changes = op.operand_changes(lambda value: new[value]) | op.map_dims(values)
        callee = changes.get("callee", getattr(op, "callee", None))
        if isinstance(callee, Graph):
            changes["callee"] = done[id(callee)]
        made = op.replace(**changes) if changes else op
        builder.add(made)
        new.update(zip(op.results, made.results, strict=True))
    return builder.finish([new[value] for value in graph.outputs], graph.output_names)


@dataclass(frozen=True)
class StateSpec:
    """One named tensor that prefill leaves for decode.

    `type` has the rows so far along `axis` as the symbol `P` (kinds `kv` and `latent`), as `W<n>`
    for the last n at most (kind `window`), or a fixed number of them, zero-filled in front while
    fewer were seen (kind `conv`); `keep` is that number. `recurrent` has no row axis.
    """

    name: str
    kind: str
    type: TensorType
    axis: int | None = None
    keep: int | None = None
    layer: int | None = None
    loc: str = ""


@dataclass(frozen=True)
class Whole:
    """A model without phases: one graph, called with its own inputs for its own outputs."""

    name: str
    forward: Graph


@dataclass(frozen=True)
class Program:
    """Two graphs from one and the state between them.

    `prefill(tokens[B,S]) -> logits[B,1,V], state`; `decode(tokens[B,T], past, state) ->
    logits[B,T,V], state`. `forward` is the stateless source. `max_context` bounds P+T; `facts` are
    sentences that the runtime enforces.
    """

    name: str
    forward: Graph
    prefill: Graph
    decode: Graph
    states: tuple[StateSpec, ...]
    max_context: int
    facts: tuple[str, ...] = field(default=())
