"""Operators that ONNX defines by others: the nodes of their function body in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hetc.frontends.onnx.item import Item
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.opaque import one_node_model

if TYPE_CHECKING:
    from onnx import NodeProto


def function_body(
    node: Node, given: dict[str, Item], versions: dict[str, int]
) -> list[NodeProto] | None:
    """The nodes that ONNX's schema defines `node` by, on the same names; None where it does not.

    `given` has the inputs of the node by name: some bodies depend on their types.
    """
    from onnx import defs, inliner

    proto = node.proto
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    if not defs.has(proto.op_type, node.version, domain):
        return None
    schema = defs.get_schema(proto.op_type, node.version, domain)
    types = [item.type for item in given.values()]
    model = one_node_model(proto, list(given), types, versions, [n for n in node.outputs if n])
    (call,) = model.graph.node
    present = {item.name for item in call.attribute}
    # The inliner binds the attributes of the call only, so that defaults are written out.
    for name, attribute in schema.attributes.items():
        if name not in present and attribute.default_value.name:
            call.attribute.append(attribute.default_value)
    chosen = [(proto.domain, proto.op_type)]
    try:
        inlined = inliner.inline_selected_functions(model, chosen, inline_schema_functions=True)
    except RuntimeError:
        return None  # A node that its own schema does not fit; who keeps it says what is wrong.
    body = inlined.graph.node
    if any(item.op_type == proto.op_type for item in body):
        return None  # It has no function body, or none for this version and these types.
    for item in body:
        item.name = proto.name
        item.metadata_props.extend(proto.metadata_props)
    return list(body)
