"""Where a node of an exported program comes from: the module path, and the line of source."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

_REPEATED_CALL = re.compile(r"@\d+")
# What PyTorch writes where it knows no module.
_NOWHERE = "_empty_nn_module_stack"


@dataclass
class Places:
    """Module paths without the wrapper around the model."""

    wrapper: str
    _known: dict[str, str] = field(default_factory=dict)

    def loc(self, node: Node) -> str:
        """Path of the innermost module that the node belongs to, such as `model.layers.3.mlp`."""
        path = _path(node)
        loc = self._known.get(path)
        if loc is None:
            plain = _REPEATED_CALL.sub("", path)
            inside = plain != self.wrapper[:-1] and not plain.startswith(_NOWHERE)
            loc = self._known[path] = plain.removeprefix(self.wrapper) if inside else ""
        return loc


def wrapper_of(program: ExportedProgram) -> str:
    """`model.` where all of the program lies in one child `model` of its root; else empty.

    So it is when a small module wraps the model to pick its inputs and outputs.
    """
    paths = {*program.state_dict, *map(_path, program.graph.nodes)}
    return common_root(path for path in paths if path and not path.startswith(_NOWHERE))


def common_root(paths: Iterable[str]) -> str:
    """The first component that all paths share, with its dot; empty where they share none."""
    first = {path.partition(".")[0] for path in paths}
    return f"{first.pop()}." if len(first) == 1 else ""


def place(node: Node, loc: str) -> str:
    """Module path and node name: the same on every machine, so that bundles may hold it."""
    return f"{loc or 'the root module'}: %{node.name}"


def describe(node: Node, loc: str) -> str:
    """The place of a node and the line of the model's source that made it, for errors."""
    trace = (line.strip() for line in node.meta.get("stack_trace", "").splitlines())
    lines = [line for line in trace if line.startswith("File ")]
    where = f" ({lines[-1]})" if lines else ""
    return f"{place(node, loc)}{where}"


def _path(node: Node) -> str:
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return ""
    path: str = next(reversed(stack.values()))[0]
    return path
