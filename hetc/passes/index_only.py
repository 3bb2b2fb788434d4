"""Index-only values: those without a data path from the graph's inputs, so that they depend on
sizes and positions alone."""

from __future__ import annotations

from collections.abc import Sequence

from hetc.ir.graph import Graph, GraphBuilder
from hetc.ir.op import Op, Value


class IndexOnly:
    """Answers whether a value depends on positions, sizes and weights alone; remembers what it has
    seen."""

    def __init__(self) -> None:
        self._known: dict[Value, bool] = {}

    def __call__(self, value: Value) -> bool:
        stack = [value]
        while stack:
            item = stack[-1]
            if item in self._known:
                stack.pop()
            elif item.op is None:
                self._known[item] = False
                stack.pop()
            else:
                unknown = [operand for operand in item.op.operands if operand not in self._known]
                if unknown:
                    stack.extend(unknown)
                else:
                    answer = all(self._known[operand] for operand in item.op.operands)
                    self._known.update(dict.fromkeys(item.op.results, answer))
                    stack.pop()
        return self._known[value]


def ops_behind(values: Sequence[Value]) -> list[Op]:
    """Every op that `values` depend on, operands first."""
    builder = GraphBuilder("cone")
    for value in values:
        if value.op is not None:
            builder.add(value.op)
    return builder.ops


def cone(values: Sequence[Value], name: str = "cone") -> Graph:
    """The graph without inputs that computes the index-only `values`."""
    return Graph(name, (), tuple(ops_behind(values)), tuple(values))
