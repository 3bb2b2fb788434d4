"""Retype: change the float type of weights and activations, `--dtype`.

Positions stay in the type in which the model computes them: an angle of position 4,000 in bf16
would be wrong. They are cast where they meet data. Explicit widenings to f32 stay; narrowings back
go to the new type.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from hetc.ir.graph import Graph, GraphBuilder
from hetc.ir.op import Op, Value
from hetc.ir.ops.control import Opaque
from hetc.ir.ops.elementwise import BitCast, Cast
from hetc.ir.ops.quant import Dequantize
from hetc.ir.ops.source import Weight
from hetc.ir.types import F32, DType, TensorType
from hetc.passes.index_only import IndexOnly


def retype(graph: Graph, old: DType, new: DType) -> Graph:
    """`graph` with `old` replaced by `new` in weights and along every data path."""
    if old is new:
        return graph
    index_only = IndexOnly()
    builder = GraphBuilder(graph.name)
    made: dict[Value, Value] = {}
    for value in graph.inputs:
        type = value.type.with_dtype(new) if value.dtype is old else value.type
        made[value] = builder.input(value.name, type)
    widens = new.bits > old.bits
    # What positions are made of stays as it is, also for whoever else reads it: a weight has one
    # type in a bundle.
    settled = {
        value.op.name
        for op in graph.ops
        if not widens and index_only(op.results[0])
        for value in op.operands
        if isinstance(value.op, Weight)
    }

    def operand(value: Value, for_data: bool) -> Value:
        current = made[value]
        if for_data and value.dtype is old and current.dtype is not new:
            source = value.op
            if isinstance(source, Weight) and source.name not in settled:
                return builder.add(Weight(source.name, source.type.with_dtype(new), loc=source.loc))
            return builder.add(_cast(current, new))
        return current

    def as_it_was(value: Value) -> Value:
        current = made[value]
        return current if current.dtype is value.dtype else builder.add(_cast(current, value.dtype))

    for op in graph.ops:
        if isinstance(op, BitCast):
            # Bits mean what they meant only in the type that had them.
            kept = op.map_operands(as_it_was)
            builder.add(kept)
            made[op.results[0]] = kept.results[0]
            continue
        positional = index_only(op.results[0])
        to_data = partial(operand, for_data=not positional or widens)
        mapped = op.map_operands(to_data)
        if not positional or (widens and not isinstance(op, Weight)):
            mapped = _with_dtype(mapped, old, new)
        builder.add(mapped)
        made.update(zip(op.results, mapped.results, strict=True))
    return builder.finish((made[value] for value in graph.outputs), graph.output_names).prune()


def _cast(value: Value, dtype: DType) -> Op:
    return Cast(value, dtype, loc=value.op.loc if value.op else "")


def _with_dtype(op: Op, old: DType, new: DType) -> Op:
    changes: dict[str, Any] = {
        name: new for name, item in op.attributes() if isinstance(item, DType) and item is old
    }
    if isinstance(op, Opaque):
        types = [type.with_dtype(new) if type.dtype is old else type for type in op.types]
        changes["types"] = tuple(types)
    return op.replace(**changes) if changes else op


def _elements(type: TensorType) -> int:
    return type.size if isinstance(type.size, int) else 0


def float_dtype(graph: Graph) -> DType:
    """The float type that most weight elements of `graph` have, as they are used; f32 where there
    are none."""
    counts: dict[DType, int] = {}
    for op in graph.ops:
        type = op.results[0].type
        if isinstance(op, Weight | Dequantize) and type.dtype.is_float:
            counts[type.dtype] = counts.get(type.dtype, 0) + _elements(type)
    return max(counts, key=lambda dtype: counts[dtype], default=F32)
