"""Inline calls: the inverse of outlining."""

from __future__ import annotations

from collections.abc import Sequence

from hetc.ir.graph import Graph, GraphBuilder
from hetc.ir.op import Value
from hetc.ir.ops.control import Call
from hetc.passes.layer_names import full_location


def inline_calls(graph: Graph) -> Graph:
    """`graph` with the ops of every called graph in the place of the call; none is left."""
    builder = GraphBuilder(graph.name)
    builder.inputs.extend(graph.inputs)
    outputs = _inline(graph, graph.inputs, "", builder)
    return builder.finish(outputs, graph.output_names)


def _inline(graph: Graph, args: Sequence[Value], place: str, builder: GraphBuilder) -> list[Value]:
    new = dict(zip(graph.inputs, args, strict=True))
    for op in graph.ops:
        loc = full_location(place, op.loc)
        if isinstance(op, Call):
            operands = [new[value] for value in op.args]
            new.update(zip(op.results, _inline(op.callee, operands, loc, builder), strict=True))
            continue
        changes = op.operand_changes(lambda value: new[value])
        made = op.replace(**changes, loc=loc) if changes or loc != op.loc else op
        if made is op and place:
            made = op.replace()  # each call needs ops of its own
        builder.add(made)
        new.update(zip(op.results, made.results, strict=True))
    return [new[value] for value in graph.outputs]
