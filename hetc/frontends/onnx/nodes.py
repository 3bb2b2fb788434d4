"""ONNX nodes as plain data, so that the tables never touch protobuf."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hetc.errors import InputError
from hetc.frontends.onnx.tensors import array_of

if TYPE_CHECKING:
    from onnx import NodeProto

# `onnx::Gemm_12`, `val_130`, `12`: names that an exporter made up.
ANONYMOUS = re.compile(r"(onnx::\w+_\d+|val_\d+|\d+)")
_QUOTED = re.compile("'([^']*)'")
_STANDARD_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class Node:
    """One operator application: names of what it reads ("" where absent) and makes, decoded
    attributes, and where it came from.

    `kind` is the operator's name, with its domain in front unless that is ONNX's own
    (`com.microsoft::Gelu`). `version` is the version of the operator set it was written for.
    `proto` is the message itself, for an operator that is kept as it is.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    version: int
    loc: str
    proto: NodeProto

    @property
    def title(self) -> str:
        """How an error names this node: the operator, and where in the model it stands."""
        return f"{self.kind} {self.proto.name or self.loc or ', '.join(self.outputs)}".strip()

    def get(self, name: str, default: Any = None) -> Any:
        """The attribute `name`, or `default` where the node does not set it."""
        return self.attributes.get(name, default)


def read_node(proto: NodeProto, versions: Mapping[str, int]) -> Node:
    """A node message as plain data; raises InputError (HETC-I306) for an attribute of no known
    type.
    """
    domain = "" if proto.domain in _STANDARD_DOMAINS else proto.domain
    kind = f"{domain}::{proto.op_type}" if domain else proto.op_type
    attributes = {item.name: _attribute(item, kind) for item in proto.attribute}
    version = versions.get(domain, 1)
    loc = module_path(proto)
    return Node(kind, tuple(proto.input), tuple(proto.output), attributes, version, loc, proto)


def module_path(proto: NodeProto) -> str:
    """The module path of a node in the source model (`model.layers.3.mlp.up_proj`), else its name.

    The newer torch exporter writes the modules around a node as metadata, outermost first and the
    node itself last; the older one names a node `/model/layers.3/mlp/up_proj/MatMul`.
    """
    for item in proto.metadata_props:
        if item.key == "pkg.torch.onnx.name_scopes" and (path := _innermost_scope(item.value)):
            return path
    if proto.name.startswith("/"):
        return ".".join(proto.name.strip("/").split("/")[:-1])
    return proto.name


def module_path_of_weight(name: str) -> str:
    """The module that owns a weight: its name without the last part."""
    return name.rpartition(".")[0]


def _innermost_scope(text: str) -> str:
    # A Python list of strings; read by its quotes, since evaluating it costs a fifth of the import.
    scopes = _QUOTED.findall(text)
    return "" if len(scopes) < 2 or scopes[-2].startswith("_") else scopes[-2]


# Numbers of AttributeProto.AttributeType in onnx.proto.
_FLOAT, _INT, _STRING, _TENSOR, _GRAPH, _FLOATS, _INTS, _STRINGS = range(1, 9)


def _attribute(item: Any, kind: str) -> Any:
    if item.type == _FLOAT:
        return item.f
    if item.type == _INT:
        return item.i
    if item.type == _STRING:
        return item.s.decode("utf-8", "replace")
    if item.type == _TENSOR:
        return array_of(item.t) if not item.t.external_data else item.t
    if item.type == _GRAPH:
        return item.g
    if item.type == _FLOATS:
        return tuple(item.floats)
    if item.type == _INTS:
        return tuple(item.ints)
    if item.type == _STRINGS:
        return tuple(text.decode("utf-8", "replace") for text in item.strings)
    raise InputError(
        "HETC-I306",
        f"an attribute of {kind} has a type that hetc does not read",
        at=item.name,
        found=f"attribute type {item.type}",
    )
