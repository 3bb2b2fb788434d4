"""How many nodes a model has once its own functions are put in place of their calls.

Thirty functions, each of which calls the next one twice, are a small file and a billion nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hetc.errors import InputError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_MAX_NODES = 2**20


def require_inlinable(model: ModelProto) -> None:
    """Raise InputError (HETC-I305) where the functions of `model` call each other in a circle, or
    make more nodes than any model has."""
    bodies = {(item.domain, item.name): item.node for item in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Iterable[NodeProto], inside: frozenset[tuple[str, str]]) -> int:
        total = 0
        for node in nodes:
            total += 1 + called((node.domain, node.op_type), inside)
            for attribute in node.attribute:
                graphs = (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else []))
                total += sum(size(graph.node, inside) for graph in graphs)
        return total

    def called(name: tuple[str, str], inside: frozenset[tuple[str, str]]) -> int:
        if name not in bodies:
            return 0
        if name in inside:
            raise _refused(f"the function {name[1]} calls itself")
        if name not in sizes:
            sizes[name] = size(bodies[name], inside | {name})
        return sizes[name]

    total = size(model.graph.node, frozenset())
    if total > _MAX_NODES:
        raise _refused(f"functions that make {total:,} nodes")


def _refused(found: str) -> InputError:
    return InputError(
        "HETC-I305",
        "the functions of the ONNX model cannot be put in place of their calls",
        expected=f"at most {_MAX_NODES:,} nodes, and no circle",
        found=found,
        do="export the model again without functions",
    )
