"""Operators that the tables do not cover: kept whole, typed by ONNX's own shape inference, run by
its reference evaluator.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from hetc.errors import BackendError, InputError, MissingDependency, Reason
from hetc.frontends.onnx.context import Context
from hetc.frontends.onnx.item import Item
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.tensors import NUMBERS, dtype_named
from hetc.ir.dims import Dim, DimLike
from hetc.ir.ops.control import OPAQUE_RUNNERS, Opaque
from hetc.ir.types import Array, TensorType

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

_STANDARD = ("", "ai.onnx.ml")


def keep_opaque(ctx: Context, node: Node, versions: dict[str, int], why: str) -> tuple[Item, ...]:
    """`node` as an op that only the reference executor runs, with a Reason (HETC-I310).

    Raises InputError (HETC-I311) where ONNX's shape inference does not tell the types of its
    results.
    """
    read = [name for name in (*node.inputs, *captured_names(node.proto)) if name]
    names = tuple(dict.fromkeys(read))
    items = []
    for name in names:
        item = ctx.lookup(name, node.title)
        if not isinstance(item, Item):
            raise InputError(
                "HETC-I311", "an unknown operator reads a sequence of tensors", at=node.title
            )
        items.append(item)
    makes = tuple(name for name in node.outputs if name)
    types = _result_types(ctx, node, names, items, versions, makes, why)
    target = node.kind if "::" in node.kind else f"ai.onnx::{node.kind}"
    ctx.opaque.append(
        Reason("HETC-I310", f"{target} runs in the reference executor only: {why}", ctx.loc)
    )
    encoded = base64.b64encode(bare(node.proto).SerializeToString(deterministic=True))
    arguments = {
        "inputs": names,
        "node": encoded.decode("ascii"),
        "outputs": makes,
        "versions": versions,
    }
    text = json.dumps(arguments, sort_keys=True, separators=(",", ":"))
    made = iter(ctx.emit_all(Opaque, tuple(items), "onnx", target, text, types))
    # An output that the node leaves out keeps its place, so that results line up with names.
    return tuple(
        next(made) if name else Item(TensorType(types[0].dtype, ())) for name in node.outputs
    )


def bare(proto: NodeProto) -> NodeProto:
    """`proto` without its remarks: exporters write stack traces with paths of the machine there."""
    from onnx import NodeProto

    copy = NodeProto()
    copy.CopyFrom(proto)
    _drop_remarks(copy)
    return copy


def _drop_remarks(message: Any) -> None:
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in (value,) if hasattr(value, "ListFields") else value:
                _drop_remarks(part)


def captured_names(proto: NodeProto) -> list[str]:
    """Names that the subgraphs of a control-flow node read from the graph around it."""
    found: list[str] = []
    for attribute in proto.attribute:
        graphs = [*attribute.graphs, *([attribute.g] if attribute.type == attribute.GRAPH else [])]
        for graph in graphs:
            found.extend(_free_names(graph))
    return found


def _free_names(graph: GraphProto) -> list[str]:
    made = {item.name for item in (*graph.input, *graph.initializer)}
    free: list[str] = []
    for node in graph.node:
        free.extend(
            name for name in (*node.input, *captured_names(node)) if name and name not in made
        )
        made.update(node.output)
    free.extend(item.name for item in graph.output if item.name not in made)
    return free


def _result_types(
    ctx: Context,
    node: Node,
    names: Sequence[str],
    items: Sequence[Item],
    versions: dict[str, int],
    makes: tuple[str, ...],
    why: str,
) -> tuple[TensorType, ...]:
    from onnx import shape_inference

    symbols = dict(ctx.symbols)
    for item in items:
        symbols.update({str(dim): dim for dim in item.shape if isinstance(dim, Dim)})
    model = one_node_model(node.proto, names, [item.type for item in items], versions, makes)
    for name, item in zip(names, items, strict=True):
        if item.known is not None and not item.symbolic:
            _add_constant(model, name, item.known)
    try:
        inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except (shape_inference.InferenceError, ValueError, RuntimeError) as error:
        _untyped(node, why, str(error))
    return tuple(
        _type_of(info, symbols)
        or _type_of(ctx.declared.get(info.name), symbols)
        or _untyped(node, why, f"no shape for {info.name}")
        for info in inferred.graph.output
    )


def one_node_model(
    proto: NodeProto,
    names: Sequence[str],
    types: Sequence[TensorType],
    versions: dict[str, int],
    makes: Sequence[str],
) -> ModelProto:
    """A model of one node, which reads `names` of these types and makes `makes`."""
    from onnx import TypeProto, ValueInfoProto, helper

    inputs = [
        helper.make_tensor_value_info(
            name,
            NUMBERS[type.dtype],
            [str(dim) if isinstance(dim, Dim) else dim for dim in type.shape],
        )
        for name, type in zip(names, types, strict=True)
    ]
    outputs = [ValueInfoProto(name=name, type=TypeProto()) for name in makes]
    graph = helper.make_graph([proto], "opaque", inputs, outputs)
    opsets = [helper.make_opsetid(domain, version) for domain, version in sorted(versions.items())]
    model: ModelProto = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = min(model.ir_version, 10)
    return model


def _add_constant(model: ModelProto, name: str, array: Array) -> None:
    from onnx import numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(array, name))


def _type_of(info: ValueInfoProto | None, symbols: dict[str, DimLike]) -> TensorType | None:
    if info is None:
        return None
    tensor = info.type.tensor_type
    if not tensor.elem_type or not tensor.HasField("shape"):
        return None
    dims: list[DimLike] = []
    for dim in tensor.shape.dim:
        size = dim.dim_value if dim.HasField("dim_value") else symbols.get(dim.dim_param)
        if size is None:
            return None
        dims.append(size)
    return TensorType(dtype_named(tensor.elem_type, info.name), tuple(dims))


def _untyped(node: Node, why: str, found: str) -> NoReturn:
    raise InputError(
        "HETC-I311",
        "an operator that hetc cannot import makes tensors of unknown type",
        at=node.title,
        expected="an operator in the tables, or types from ONNX's shape inference",
        found=f"{why}; {(found.strip().splitlines() or [''])[-1][:200]}",
        do="export the model without this operator",
    )


def run_opaque(op: Opaque, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
    """Run one kept node: by ONNX's reference evaluator, or ONNX Runtime for operators of other
    domains.

    Raises BackendError (HETC-E002) where neither knows it.
    """
    try:
        from onnx import NodeProto
    except ImportError:
        raise MissingDependency("onnx", "compile", needed_for=f"running {op.target}") from None
    arguments = json.loads(op.arguments)
    proto = NodeProto()
    proto.ParseFromString(base64.b64decode(arguments["node"]))
    names: list[str] = arguments["inputs"]
    types = [value.type for value in op.inputs]
    model = one_node_model(proto, names, types, arguments["versions"], arguments["outputs"])
    for info, type in zip(model.graph.output, op.types, strict=True):
        info.type.tensor_type.elem_type = NUMBERS[type.dtype]
    feeds = dict(zip(names, inputs, strict=True))
    run = _reference if proto.domain in _STANDARD else _runtime
    try:
        results = run(model, feeds)
    except (RuntimeError, NotImplementedError, ValueError, TypeError) as error:
        raise BackendError(
            "HETC-E002",
            f"nothing here can run {op.target}",
            at=op.loc,
            found=(str(error).splitlines() or [""])[0][:200],
            do="export the model without this operator",
        ) from error
    return tuple(np.asarray(result) for result in results)


def _reference(model: ModelProto, feeds: dict[str, Array]) -> Sequence[Any]:
    from onnx.reference import ReferenceEvaluator

    results = ReferenceEvaluator(model).run(None, feeds)
    return list(results)


def _runtime(model: ModelProto, feeds: dict[str, Array]) -> Sequence[Any]:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    # ONNX Runtime's errors share no base class of their own.
    failures = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.NotImplemented)
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return list(session.run(None, feeds))
    except failures as error:
        raise RuntimeError(str(error)) from error


OPAQUE_RUNNERS["onnx"] = run_opaque
