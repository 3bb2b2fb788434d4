"""Narrow weights: store the matrices of a plan in a narrower type, and widen them where they are
read.

For configurations whose checkpoint is quantized (DeepSeek-V3 in f8, say): bytes, capacity and rates
are then those of the stored type. Scales are not counted: one number for 128 x 128 elements.
"""

from __future__ import annotations

from collections.abc import Iterator

from hetc.ir.graph import Graph, rebuild
from hetc.ir.op import Op, Value
from hetc.ir.ops.linear import ExpertLinear, Linear
from hetc.ir.ops.source import Weight
from hetc.ir.ops.unary import Cast
from hetc.ir.types import DType


def narrow_weights(graph: Graph, dtype: DType) -> Graph:
    """`graph` with the matrices of its products stored in `dtype`; the one that gives the output
    is kept, as quantizers keep lm_head."""
    kept = set(output_matrices(graph))
    made: dict[str, Value] = {}

    def rewrite(op: Op) -> Op | None:
        if not isinstance(op, Linear | ExpertLinear):
            return None
        weight = op.weight.op
        if not isinstance(weight, Weight) or weight.name in kept:
            return None
        if weight.type.dtype.bits <= dtype.bits:
            return None
        if weight.name not in made:
            stored = Weight(weight.name, weight.type.with_dtype(dtype), loc=weight.loc)
            made[weight.name] = Cast(stored.result, weight.type.dtype, loc=weight.loc).result
        return op.replace(weight=made[weight.name])

    return rebuild(graph, rewrite)


def output_matrices(graph: Graph) -> Iterator[str]:
    """The weights of the products behind which nothing but casts and views stands."""
    for value in graph.outputs:
        while value.op is not None and len(value.op.operands) == 1:
            value = value.op.operands[0]
        if isinstance(value.op, Linear) and isinstance(value.op.weight.op, Weight):
            yield value.op.weight.op.name
