"""A graph of the IR as one ONNX model: calls inlined, weights named and left outside."""

from __future__ import annotations

from collections.abc import Sequence

from hetc.backends.base import reasons, walk
from hetc.backends.onnx import emitters
from hetc.backends.onnx.elements import computed
from hetc.backends.onnx.model import Output, serialize
from hetc.backends.onnx.sizes import Sizes
from hetc.backends.onnx.table import RULES, Context, why_not
from hetc.backends.onnx.writer import Writer
from hetc.errors import BackendError, Reason
from hetc.ir.graph import Graph
from hetc.ir.interpret import WeightLookup
from hetc.ir.op import Op
from hetc.ir.ops.control import Call
from hetc.ir.ops.source import Weight
from hetc.ir.types import DType

__all__ = ["emit_onnx", "emitters", "supports"]

# What a half's outputs that are state end in.
STATE_OUT = ".out"


def supports(op: Op) -> Reason | None:
    """Why `op` cannot be in an ONNX file (HETC-E010, E011, E012), None where it can."""
    # A call is its callee's ops, which are asked for themselves.
    return None if isinstance(op, Call) else why_not(op)


def emit_onnx(graph: Graph, weights: WeightLookup | None = None, *, rounds: bool = False) -> bytes:
    """`graph` as an ONNX model (opset 23, computing in f32) with its inputs and outputs by name.

    Inputs, and the outputs named `<state>.out`, keep the graph's element types; other outputs are
    f32 where the graph has a float of 16 bits. Without `weights` the initializers are declared as
    external data by name, for the runtime to supply; with them the data is inside. With `rounds`, a
    cast to 16 bits rounds as the graph says, and lookups refuse negative indices.

    Raises BackendError: HETC-E014 listing the ops that cannot be emitted, E013 for a size that no
    input shows; MissingDependency without the `onnx` package.
    """
    refused = reasons(graph, supports)
    if refused:
        raise BackendError(
            "HETC-E014",
            f"the onnx backend cannot write @{graph.name}",
            at=refused[0].at,
            found="; ".join(str(reason) for reason in refused[:3])
            + (f"; and {len(refused) - 3} more" if len(refused) > 3 else ""),
            do="compile with --executor reference",
        )
    outputs = graph.output_names or [f"output{i}" for i in range(len(graph.outputs))]
    taken = {value.name for value in graph.inputs} | set(outputs)
    taken |= {op.name for op in walk(graph) if isinstance(op, Weight)}
    writer = Writer(taken, rounds=rounds)
    context = Context(writer, Sizes(writer, graph))
    results = _inline(context, graph, [writer.load(v.name, v.dtype) for v in graph.inputs])
    made = [
        _output(writer, name, result, value.dtype)
        for name, result, value in zip(outputs, results, graph.outputs, strict=True)
    ]
    shapes = [value.shape for value in graph.outputs]
    return serialize(writer, graph.name, graph.inputs, made, shapes, weights)


def _output(writer: Writer, name: str, result: str, dtype: DType) -> Output:
    """State leaves as the graph says, for the other half expects it so; logits leave in f32."""
    if name.endswith(STATE_OUT):
        return Output(name, writer.store(result, dtype), dtype)
    return Output(name, result, computed(dtype))


def _inline(c: Context, graph: Graph, inputs: Sequence[str]) -> list[str]:
    """Write the ops of `graph` on these inputs; the names of its outputs."""
    outside = c.w.names
    c.w.names = dict(zip(graph.inputs, inputs, strict=True))
    for op in graph.ops:
        c.w.loc = op.loc
        if isinstance(op, Call):
            names: Sequence[str] = _inline(c, op.callee, c.w.read(op.args))
        else:
            emitted = RULES[type(op)].emit(c, op)
            names = (emitted,) if isinstance(emitted, str) else emitted
        c.w.names.update(zip(op.results, names, strict=True))
    results = c.w.read(graph.outputs)
    c.w.names = outside
    return results
