"""Operators that ONNX defines by others: the nodes of their function body in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hetc.frontends.onnx.item import Item
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.opaque import one_node_model

if TYPE_CHECKING:
    from onnx import FunctionProto, NodeProto

# The body becomes a function of the model under a domain of its own, which ONNX's inliner then puts
# in place of the call: the inliner itself finds no body for a node with an absent input.
_DOMAIN = "hetc.body"


def function_body(
    node: Node, given: dict[str, Item], versions: dict[str, int]
) -> tuple[list[NodeProto], dict[str, int]] | None:
    """The nodes that ONNX's schema defines `node` by, on the same names, and the operator sets that
    they are written for; None where it does not.

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
    known = {info.name: info.type.SerializeToString() for info in model.graph.input}
    body = _written(schema, call, [known.get(name, b"") for name in call.input], node.version)
    if body is None:
        return None
    body.domain = call.domain = _DOMAIN
    body.name = proto.op_type
    model.functions.append(body)
    # The body says itself what its nodes mean; of the call nothing is left.
    del model.opset_import[:]
    model.opset_import.extend(body.opset_import)
    model.opset_import.add(domain=_DOMAIN, version=1)
    try:
        inlined = inliner.inline_local_functions(model).graph.node
    except RuntimeError:
        return None  # A node that its own schema does not fit; who keeps it says what is wrong.
    if any(item.op_type == proto.op_type for item in inlined):
        return None  # One that is defined by another form of itself would never end.
    for item in inlined:
        item.name = proto.name
        item.metadata_props.extend(proto.metadata_props)
    own = {"" if o.domain == "ai.onnx" else o.domain: o.version for o in body.opset_import}
    return list(inlined), {**versions, **own}


def _written(
    schema: Any, call: NodeProto, types: list[bytes], version: int
) -> FunctionProto | None:
    """The function of an `onnx.defs.OpSchema`, for a call with inputs of these types."""
    from onnx import FunctionProto

    if schema.has_context_dependent_function:
        known = schema.context_dependent_function_opset_versions
        content = schema.get_context_dependent_function_with_opset_version(
            _newest(known, version), call.SerializeToString(), types
        )
        function: FunctionProto = FunctionProto.FromString(content)
        return function if function.node else None
    if not schema.has_function:
        return None
    body: FunctionProto = FunctionProto.FromString(schema.function_body.SerializeToString())
    return body


def _newest(versions: list[int], most: int) -> int:
    """The newest of some operator sets that is no newer than `most`, else the oldest."""
    return max((v for v in versions if v <= most), default=min(versions))
