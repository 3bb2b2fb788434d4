"""From collected nodes to the bytes of an ONNX file; the one module that needs `onnx`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hetc.backends.onnx.elements import computed, onnx_type
from hetc.backends.onnx.writer import CONTRIB, Body, Node, Writer
from hetc.errors import MissingDependency
from hetc.ir.interpret import WeightLookup
from hetc.ir.op import Value
from hetc.ir.types import DType, Shape, TensorType

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto

# The newest opset whose every op used here has a CPU kernel in ONNX Runtime 1.32.
OPSET = 23
IR_VERSION = 11


@dataclass(frozen=True)
class Output:
    """An output of the file: its name there, the name that it was made under, and its type."""

    name: str
    made: str
    dtype: DType


def serialize(
    writer: Writer,
    name: str,
    inputs: Sequence[Value],
    outputs: Sequence[Output],
    shapes: Sequence[Shape],
    weights: WeightLookup | None,
) -> bytes:
    """The model's bytes; `shapes` are those of the outputs.

    Raises MissingDependency without the `onnx` package.
    """
    onnx = _onnx()
    nodes = _named(_needed(writer.nodes, outputs), outputs)
    read = {name for node in nodes for name in node.inputs}
    literals = [_tensor(n, array) for n, array in writer.constants.items() if n in read]
    proto = onnx.helper.make_graph(
        [_node(node, place) for place, node in enumerate(nodes)],
        name,
        [_info(value.name, value.dtype, value.shape) for value in inputs],
        [_info(o.name, o.dtype, shape) for o, shape in zip(outputs, shapes, strict=True)],
        [*_weights(writer, weights), *literals],
    )
    versions = [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(CONTRIB, 1)]
    model = onnx.helper.make_model(
        proto, opset_imports=versions, ir_version=IR_VERSION, producer_name="hetc"
    )
    return bytes(model.SerializeToString(deterministic=True))


def _needed(nodes: Sequence[Node], outputs: Sequence[Output]) -> list[Node]:
    """The nodes that some output depends on."""
    needed = {output.made for output in outputs}
    kept = []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    return kept[::-1]


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingDependency("onnx", "compile", needed_for="the backend onnx") from error
    return onnx


def _named(nodes: Sequence[Node], outputs: Sequence[Output]) -> list[Node]:
    """The nodes with the outputs' names; what no node makes, or two outputs ask for, is copied."""
    free = {name for node in nodes for name in node.outputs}
    renamed: dict[str, str] = {}
    copies = []
    for output in outputs:
        if output.made in free:
            free.remove(output.made)
            renamed[output.made] = output.name
        else:
            source = renamed.get(output.made, output.made)
            copies.append(Node("Identity", (source,), (output.name,)))
    return [
        replace(
            node,
            inputs=tuple(renamed.get(name, name) for name in node.inputs),
            outputs=tuple(renamed.get(name, name) for name in node.outputs),
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


def _info(name: str, dtype: DType, shape: Shape) -> ValueInfoProto:
    dims = [dim if isinstance(dim, int) else str(dim) for dim in shape]
    info: ValueInfoProto = _onnx().helper.make_tensor_value_info(name, onnx_type(dtype), dims)
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
        name=name, data_type=onnx_type(computed(type.dtype)), dims=type.shape
    )
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=name)
    return tensor
