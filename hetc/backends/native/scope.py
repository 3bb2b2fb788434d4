"""What is known of the values of a half before it runs.

A value is `static` where weights and constants alone make it: it is computed when the weights are
packed. It is `positional` where positions make it as well: it becomes a table with a row for each
position. All else is `dynamic`: the generated code computes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Literal

from hetc.backends.dataflow.blocks import Run
from hetc.ir.dims import Dim
from hetc.ir.graph import Graph
from hetc.ir.interpret import WeightLookup, evaluate_op
from hetc.ir.op import Op, Value
from hetc.ir.ops.control import Call
from hetc.ir.ops.source import Source, Weight
from hetc.ir.types import Array

Kind = Literal["static", "positional", "dynamic"]


class Scope:
    """The values of one block: those of the main graph, and for a loop those of the called one."""

    def __init__(self, main: Graph, run: Run) -> None:
        self.run = run
        self._kinds: dict[Value, Kind] = {}
        for op in main.ops:
            self._add(op)
        for formal, args in self.arguments.items():
            kinds = {self.kind(arg) for arg in args}
            same = all(arg is args[0] for arg in args)
            if kinds == {"static"} or (same and kinds == {"positional"}):
                self._kinds[formal] = kinds.pop()
        if run.calls:
            for op in run.graph.ops:
                self._add(op)

    @cached_property
    def arguments(self) -> Mapping[Value, tuple[Value, ...]]:
        """Input of the called graph -> what it is in every call."""
        calls = [call for call in self.run.calls if isinstance(call, Call)]
        return {
            formal: tuple(call.args[place] for call in calls)
            for place, formal in enumerate(self.run.graph.inputs)
            if calls
        }

    def kind(self, value: Value) -> Kind:
        return self._kinds.get(value, "dynamic")

    def source(self, value: Value) -> Value:
        """The value of the main graph that `value` is in every iteration, else `value` itself."""
        args = self.arguments.get(value, ())
        return args[0] if args and all(arg is args[0] for arg in args) else value

    def evaluate(
        self, value: Value, iteration: int, weights: WeightLookup, sizes: Mapping[str, int]
    ) -> Array:
        """The array that a value that is not dynamic has in one iteration."""
        if value in self.arguments:
            value = self.arguments[value][iteration]
        op = value.op
        assert op is not None, "it depends on tokens"
        operands = tuple(self.evaluate(part, iteration, weights, sizes) for part in op.operands)
        return evaluate_op(op, operands, weights, sizes)[value.index]

    def _add(self, op: Op) -> None:
        kinds = {self.kind(value) for value in op.operands}
        if isinstance(op, Call) or "dynamic" in kinds:
            return
        if not op.operands and not isinstance(op, Source):
            return
        sized = any(isinstance(dim, Dim) for value in op.results for dim in value.shape)
        sized = sized or any(_symbols(item) for _, item in op.attributes())
        static = isinstance(op, Weight) or (not sized and "positional" not in kinds)
        self._kinds.update(dict.fromkeys(op.results, "static" if static else "positional"))


def _symbols(item: object) -> bool:
    if isinstance(item, tuple):
        return any(map(_symbols, item))
    return isinstance(item, Dim)
