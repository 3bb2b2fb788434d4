"""What a captured decode step computes from its position alone, tried out at every position.

A step is captured at one position, and its inputs say which: position ids, the length of a static
cache, a mask of its rows. They are made of the position P instead; what depends on nothing else
becomes a table that is evaluated row by row.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from hetc.errors import IRError, StateError
from hetc.ir.dims import symbol
from hetc.ir.graph import Graph, GraphBuilder, rebuild
from hetc.ir.interpret import WeightLookup, interpret
from hetc.ir.op import Op, Value
from hetc.ir.ops.binary import Add, Le, Where
from hetc.ir.ops.elementwise import Cast
from hetc.ir.ops.shape import Broadcast, Reshape
from hetc.ir.ops.source import Iota
from hetc.ir.types import BOOL, I64, Array, TensorType

P = symbol("P")
Kind = Literal["static", "positional", "data"]


@dataclass
class Positional:
    """Which values of `graph` the position P decides: `static` ones hang on weights alone, and
    others on data. `capacity` bounds the position.
    """

    graph: Graph
    weights: WeightLookup
    capacity: int
    kinds: dict[Value, Kind] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kinds.update(dict.fromkeys(self.graph.inputs, "data"))
        for op in self.graph.ops:
            read = {self.kinds[operand] for operand in op.operands}
            kind: Kind = "positional" if op.map_dims({"P": 0}) else "static"
            if read - {"static"}:
                kind = "data" if "data" in read else "positional"
            self.kinds.update(dict.fromkeys(op.results, kind))

    def __contains__(self, value: Value) -> bool:
        return self.kinds[value] == "positional"

    def tables(self, values: Sequence[Value]) -> dict[Value, Array]:
        """Each of the values at every position: [n, *shape].

        n is `capacity`, or the first position at which one cannot be computed, such as the end of a
        table of positions. What grows with the position along its last axis, as a mask does, ends
        in what hides keys.
        """
        builder = GraphBuilder("positional")
        for value in values:
            if value.op is not None:
                builder.add(value.op)
        cone = Graph("positional", (), tuple(builder.ops), tuple(values))
        rows: list[tuple[Array, ...]] = []
        for position in range(self.capacity if values else 0):
            try:
                rows.append(interpret(cone, [], self.weights, {"P": position}))
            except IRError:
                if not rows:
                    raise
                break
        return {value: _stacked([row[i] for row in rows]) for i, value in enumerate(values)}

    def fixed(self, value: Value) -> Array:
        """A static value."""
        builder = GraphBuilder("static")
        if value.op is not None:
            builder.add(value.op)
        (found,) = interpret(Graph("static", (), tuple(builder.ops), (value,)), [], self.weights)
        return found


def by_position(graph: Graph, counters: Collection[str], masks: Collection[str]) -> Graph:
    """The graph with inputs made of the position P: `counters` of integers hold it, `masks` show
    the rows up to it, in bools or as 0 and -inf that are added to scores. So patterns know masks
    for what they are."""
    taken = {*counters, *masks}
    inputs = [value for value in graph.inputs if value.name not in taken]
    if len(inputs) == len(graph.inputs):
        return graph
    if not any(P in value.shape for value in inputs):
        inputs.append(Value(TensorType(BOOL, (P, 0)), name="size.P"))
    made = {
        value: (_mask if value.name in masks else _counter)(value.type)
        for value in graph.inputs
        if value.name in taken
    }

    def placed(op: Op) -> tuple[Value, ...] | None:
        if not any(value in made for value in op.operands):
            return None
        return op.map_operands(lambda value: made.get(value, value)).results

    built = rebuild(graph, placed)
    return Graph(built.name, tuple(inputs), built.ops, built.outputs, built.output_names)


def _counter(type: TensorType) -> Value:
    number = Add(Iota(1).result, P).result
    number = number if type.dtype is I64 else Cast(number, type.dtype).result
    single = Reshape(number, (1,) * type.rank).result
    return single if type.shape == single.shape else Broadcast(single, type.shape).result


def _mask(type: TensorType) -> Value:
    seen = Le(Iota(type.shape[-1]).result, P).result
    shown = seen if type.dtype is BOOL else Where(seen, 0.0, -math.inf, dtype=type.dtype).result
    return Broadcast(shown, type.shape).result


def _stacked(rows: Sequence[Array]) -> Array:
    longest = rows[-1].shape
    if rows[0].shape == longest:
        return np.stack(rows)
    if any(row.shape[:-1] != longest[:-1] for row in rows):
        raise refused("", "a table has other sizes at other positions")
    hidden = False if rows[0].dtype == BOOL.numpy else -np.inf
    found = np.full((len(rows), *longest), hidden, rows[0].dtype)
    for position, row in enumerate(rows):
        found[position, ..., : row.shape[-1]] = row
    return found


def refused(at: str, found: str) -> StateError:
    """Why a captured step is no decode half."""
    return StateError(
        "HETC-S040",
        "the captured step is no decode step that hetc knows",
        at=at,
        found=found,
        do="nothing: PyTorch's own kernels run it",
    )
