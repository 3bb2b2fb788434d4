"""Make a deep graph from a shallow one: repeat the last period of layers of an exported model.

The frontend for configurations exports a prefix and two periods (see
`hetc.frontends.sources.depth`); the second period must be the first one again, op by op, before it
is repeated. What a layer takes from the one before it is found by comparing the two periods.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hetc.ir.graph import Graph, GraphBuilder
from hetc.ir.op import Op, Value
from hetc.ir.ops.source import Weight


@dataclass(frozen=True)
class Depth:
    """`total` layers are the first `shown`, the last `period` of them over and over; `path` is the
    list of layers."""

    path: str
    shown: int
    period: int
    total: int

    def layer_of(self, name: str) -> int | None:
        """The layer that a module path or weight name belongs to."""
        found = re.match(rf"{re.escape(self.path)}\.(\d+)(?:\.|$)", name)
        return int(found[1]) if found else None

    def moved(self, name: str, by: int) -> str:
        """`name` with its layer index moved."""
        index = self.layer_of(name)
        if index is None:
            return name
        return f"{self.path}.{index + by}{name[len(self.path) + 1 + len(str(index)) :]}"


def repeat_layers(graph: Graph, depth: Depth) -> Graph | None:
    """`graph` with `depth.total` layers, or None where its two periods are not the same."""
    first, second = _periods(graph, depth)
    following = _match(first, second, depth)
    if following is None:
        return None
    builder = GraphBuilder(graph.name)
    builder.inputs.extend(graph.inputs)
    last = second[-1] if second else None
    current: dict[Value, Value] = {}

    def renamed(value: Value) -> Value:
        return current.get(value, value)

    for op in graph.ops:
        placed = op.map_operands(renamed)
        builder.add(placed)
        current.update(zip(op.results, placed.results, strict=True))
        if op is last:
            current.update(_copies(builder, second, following, depth))
    return builder.finish((current.get(v, v) for v in graph.outputs), graph.output_names)


def _periods(graph: Graph, depth: Depth) -> tuple[list[Op], list[Op]]:
    start = depth.shown - 2 * depth.period
    first: list[Op] = []
    second: list[Op] = []
    for op in graph.ops:
        index = depth.layer_of(op.name if isinstance(op, Weight) else op.loc)
        if index is not None and start <= index < depth.shown:
            (first if index < start + depth.period else second).append(op)
    return first, second


def _match(first: list[Op], second: list[Op], depth: Depth) -> Mapping[Value, Value] | None:
    """Value of the first period -> the same value of the second; None where the periods differ."""
    if len(first) != len(second):
        return None
    pairs: dict[Value, Value] = {}
    inside = {value for op in second for value in op.results}
    handed: dict[Value, Value] = {}
    shared: set[Value] = set()
    for a, b in zip(first, second, strict=True):
        if type(a) is not type(b) or len(a.operands) != len(b.operands):
            return None
        for x, y in zip(a.operands, b.operands, strict=True):
            if y in inside:
                if pairs.get(x) is not y:
                    return None
            elif y is x:
                shared.add(x)
            elif handed.setdefault(x, y) is not y:
                return None
        if not _same_attributes(a, b, depth):
            return None
        pairs.update(zip(a.results, b.results, strict=True))
    # The second period may be handed only what the first one made: that is what the next copy is
    # handed in turn. What both read must come from before them, and be nothing that is handed on:
    # two periods would not tell "the first layer's" from "the last layer's".
    made = set(pairs)
    plain = made.isdisjoint(shared) and shared.isdisjoint(handed)
    return pairs if plain and all(y in made for y in handed.values()) else None


def _same_attributes(a: Op, b: Op, depth: Depth) -> bool:
    if isinstance(a, Weight) and isinstance(b, Weight):
        return a.type == b.type and depth.moved(a.name, depth.period) == b.name
    same_types = [value.type for value in a.results] == [value.type for value in b.results]
    return (
        same_types and list(a.attributes()) == list(b.attributes()) and _literals(a) == _literals(b)
    )


def _literals(op: Op) -> list[object]:
    items = (getattr(op, spec.name) for spec in op.signature if spec.role == "scalar")
    return [None if isinstance(item, Value) else (type(item), item) for item in items]


def _copies(
    builder: GraphBuilder, template: list[Op], following: Mapping[Value, Value], depth: Depth
) -> dict[Value, Value]:
    """Place the missing periods; value of the template -> the same value of the last copy."""
    inside = {value for op in template for value in op.results}
    before: dict[Value, Value] = {value: value for value in inside}
    count = (depth.total - depth.shown) // depth.period
    for copy in range(1, count + 1):
        made: dict[Value, Value] = {}
        for op in template:

            def operand(
                value: Value, made: dict[Value, Value] = made, before: dict[Value, Value] = before
            ) -> Value:
                if value in inside:
                    return made[value]
                successor = following.get(value)
                return value if successor is None else before.get(successor, value)

            shift = copy * depth.period
            moved = op.map_operands(operand)
            if isinstance(moved, Weight):
                moved = Weight(
                    depth.moved(moved.name, shift), moved.type, loc=depth.moved(op.loc, shift)
                )
            else:
                moved = moved.replace(loc=depth.moved(op.loc, shift))
            builder.add(moved)
            made.update(zip(op.results, moved.results, strict=True))
        before = made
    return before
