"""Whole weights: dequantized matrices in place of the ops that make them, to run a graph often."""

from __future__ import annotations

from dataclasses import dataclass, field

from hetc.ir.graph import Graph, rebuild
from hetc.ir.interpret import WeightLookup, interpret
from hetc.ir.op import Op, Value
from hetc.ir.ops.quant import Dequantize
from hetc.ir.ops.source import Weight
from hetc.ir.types import Array
from hetc.passes.kept_arrays import KeptArrays


@dataclass(frozen=True)
class WholeWeights:
    """Looks up the weights of a graph that `whole_weights` made: `parts` makes the dequantized
    ones, of which the last are kept, and `stored` has the others."""

    stored: WeightLookup
    parts: dict[str, Graph]
    _kept: KeptArrays = field(default_factory=KeptArrays)

    def __call__(self, name: str) -> Array:
        """The data of `name`."""
        if name not in self.parts:
            return self.stored(name)
        return self._kept.get(name, lambda: self._made(name))

    def _made(self, name: str) -> Array:
        (whole,) = interpret(self.parts[name], (), self.stored)
        return whole


def whole_weights(graph: Graph, weights: WeightLookup) -> tuple[Graph, WholeWeights]:
    """`graph` with a weight for each dequantized one, and what looks them up."""
    parts: dict[str, Graph] = {}

    def rewrite(op: Op) -> Op | None:
        if not isinstance(op, Dequantize) or not _is_stored(op.x):
            return None
        name = f"{_first_weight(op.x)}.whole"
        parts[name] = Graph(name, (), _chain(op), (op.result,), ("whole",))
        return Weight(name, op.result.type, loc=op.loc)

    return rebuild(graph, rewrite), WholeWeights(weights, parts)


def _chain(op: Op) -> tuple[Op, ...]:
    """An op and all that it is made of, in order."""
    found: dict[Op, None] = {}
    for value in op.operands:
        if value.op is not None:
            found.update(dict.fromkeys(_chain(value.op)))
    found[op] = None
    return tuple(found)


def _is_stored(value: Value) -> bool:
    op = value.op
    return op is not None and (isinstance(op, Weight) or all(map(_is_stored, op.operands)))


def _first_weight(value: Value) -> str:
    op = value.op
    assert op is not None
    return op.name if isinstance(op, Weight) else _first_weight(op.operands[0])
