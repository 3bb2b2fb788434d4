"""From collected nodes to the bytes of an ONNX file; the one module that needs `onnx`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hetc.backends.onnx.elements import computed, onnx_type
from hetc.backends.onnx.writer import CONTRIB, Body, Node, Writer
from hetc.errors import MissingDependency
from hetc.ir.graph import Graph
from hetc.ir.interpret import WeightLookup
from hetc.ir.types import DType, TensorType

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto

# The newest opset whose every op used here has a CPU kernel in ONNX Runtime 1.32.
OPSET = 23
IR_VERSION = 11


def serialize(
    writer: Writer,
    graph: Graph,
    outputs: Sequence[tuple[str, str]],
    weights: WeightLookup | None,
) -> bytes:
    """The model's bytes; `outputs` pairs the name that the file gives with the one that was made.

    Raises MissingDependency without the `onnx` package.
    """
    onnx = _onnx()
    nodes = _named(
        writer.nodes,
        outputs,
        {value.name for value in graph.inputs} | set(writer.weights) | set(writer.constants),
    )
    literals = [_tensor(name, array) for name, array in writer.constants.items()]
    proto = onnx.helper.make_graph(
        [_node(node, place) for place, node in enumerate(nodes)],
        graph.name,
        [_info(value.name, value.type) for value in graph.inputs],
        [_info(name, value.type) for (name, _), value in zip(outputs, graph.outputs, strict=True)],
        [*_weights(writer, weights), *literals],
    )
    versions = [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(CONTRIB, 1)]
    model = onnx.helper.make_model(
        proto, opset_imports=versions, ir_version=IR_VERSION, producer_name="hetc"
    )
    return bytes(model.SerializeToString(deterministic=True))


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingDependency("onnx", "compile", needed_for="the backend onnx") from error
    return onnx


def _named(
    nodes: Iterable[Node], outputs: Sequence[tuple[str, str]], given: set[str]
) -> list[Node]:
    """The nodes with the outputs' names; what is no node's own result is copied."""
    renamed: dict[str, str] = {}
    copies = []
    for name, made in outputs:
        if made in given or made in renamed:
            copies.append(Node("Identity", (renamed.get(made, made),), (name,)))
        else:
            renamed[made] = name
    return [
        Node(
            node.kind,
            tuple(renamed.get(name, name) for name in node.inputs),
            tuple(renamed.get(name, name) for name in node.outputs),
            node.attributes,
            node.domain,
            node.loc,
        )
        for node in nodes
    ] + copies


def _node(node: Node, place: int) -> NodeProto:
    attributes = {name: _attribute(item) for name, item in node.attributes}
    proto: NodeProto = _onnx().helper.make_node(
        node.kind,
        node.inputs,
        node.outputs,
        name=f"{node.loc or node.kind}#{place}",
        domain=node.domain,
        **attributes,
    )
    return proto


def _attribute(item: Any) -> Any:
    if isinstance(item, DType):
        return onnx_type(item)
    return _body(item) if isinstance(item, Body) else item


def _body(body: Body) -> GraphProto:
    onnx = _onnx()
    proto: GraphProto = onnx.helper.make_graph(
        [_node(node, place) for place, node in enumerate(body.nodes)],
        "body",
        [_untold(name, dtype) for name, dtype in body.inputs],
        [_untold(name, dtype) for name, dtype in body.outputs],
    )
    return proto


def _untold(name: str, dtype: DType) -> ValueInfoProto:
    info: ValueInfoProto = _onnx().helper.make_tensor_value_info(name, onnx_type(dtype), None)
    return info


def _info(name: str, type: TensorType) -> ValueInfoProto:
    dims = [dim if isinstance(dim, int) else str(dim) for dim in type.shape]
    info: ValueInfoProto = _onnx().helper.make_tensor_value_info(name, onnx_type(type.dtype), dims)
    return info


def _tensor(name: str, array: np.ndarray[Any, Any]) -> TensorProto:
    proto: TensorProto = _onnx().numpy_helper.from_array(array, name)
    return proto


def _weights(writer: Writer, weights: WeightLookup | None) -> list[TensorProto]:
    if weights is None:
        return [_outside(name, type) for name, type in writer.weights.items()]
    return [
        _tensor(name, np.asarray(weights(name)).astype(computed(type.dtype).numpy))
        for name, type in writer.weights.items()
    ]


def _outside(name: str, type: TensorType) -> TensorProto:
    # Its place is its name: the runtime supplies every weight under that, and opens no file.
    onnx = _onnx()
    tensor: TensorProto = onnx.TensorProto(
        name=name, data_type=onnx_type(type.dtype), dims=type.shape
    )
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=name)
    return tensor
