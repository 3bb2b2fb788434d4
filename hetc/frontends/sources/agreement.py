"""Whether two exported periods of layers are the same computation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hetc.frontends.sources.depth import Depth

if TYPE_CHECKING:
    import torch


def periods_agree(program: torch.export.ExportedProgram, depth: Depth) -> bool:
    """Whether both periods of a program exported with `depth` do the same, op by op.

    This catches what modules' attributes cannot show: a forward that computes with the layer's own
    index. Constants must be equal, weights must be the other period's weights of the same name, and
    any other operand from outside must be the same value for both, or one that the first period
    hands to the second where it was itself handed one.
    """
    first: dict[torch.fx.Node, int] = {}
    second: dict[torch.fx.Node, int] = {}
    for node in program.graph.nodes:
        index = _layer_of(node, depth.layers)
        if node.op != "call_function" or index is None or index < depth.prefix:
            continue
        # Sizes are computed once and shared, by whichever layer needs them first.
        if not _is_size(node):
            period = first if index < depth.prefix + depth.period else second
            period[node] = len(period)
    if not first or len(first) != len(second):
        return False
    comparison = _Comparison(program, depth, first, second)
    return all(
        a.target == b.target
        and comparison.same(a.args, b.args)
        and comparison.same(a.kwargs, b.kwargs)
        for a, b in zip(first, second, strict=True)
    )


class _Comparison:
    """Operands of the first period against those of the second, with what was handed on so far."""

    def __init__(
        self,
        program: torch.export.ExportedProgram,
        depth: Depth,
        first: dict[torch.fx.Node, int],
        second: dict[torch.fx.Node, int],
    ) -> None:
        signature = program.graph_signature
        self.names = signature.inputs_to_parameters | signature.inputs_to_buffers
        self.constants: dict[str, torch.Tensor] = {
            placeholder: program.constants[name]
            for placeholder, name in signature.inputs_to_lifted_tensor_constants.items()
        }
        self.depth = depth
        self.first = first
        self.second = second
        self.handed_on: dict[torch.fx.Node, torch.fx.Node] = {}

    def same(self, a: Any, b: Any) -> bool:
        import torch

        if isinstance(a, torch.fx.Node):
            return isinstance(b, torch.fx.Node) and self._same_value(a, b)
        if isinstance(a, list | tuple):
            return len(a) == len(b) and all(map(self.same, a, b))
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(self.same(a[key], b[key]) for key in a)
        return type(a) is type(b) and bool(a == b)

    def _same_value(self, a: torch.fx.Node, b: torch.fx.Node) -> bool:
        import torch

        if a in self.first:
            return self.first[a] == self.second.get(b)
        if _is_size(a):
            return _is_size(b) and str(a.meta["val"]) == str(b.meta["val"])
        if a.name in self.constants and b.name in self.constants:
            return torch.equal(self.constants[a.name], self.constants[b.name])
        if a.name in self.names:
            shifted = self._shifted(self.names[a.name])
            return bool(self.names.get(b.name) == shifted)
        if a is b:
            return True
        return b in self.first and self.handed_on.setdefault(a, b) is b

    def _shifted(self, name: str) -> str:
        """The weight one period further on."""
        prefix = f"{self.depth.layers}."
        if not name.startswith(prefix):
            return name
        index, _, rest = name.removeprefix(prefix).partition(".")
        return f"{prefix}{int(index) + self.depth.period}.{rest}"


def _is_size(node: torch.fx.Node) -> bool:
    """Whether a node is a number computed from symbolic sizes, not a tensor."""
    import torch

    return isinstance(node.meta.get("val"), torch.SymInt | torch.SymFloat | torch.SymBool | int)


def _layer_of(node: torch.fx.Node, layers: str) -> int | None:
    """The index of the layer whose module call made `node`."""
    for path, _ in (node.meta.get("nn_module_stack") or {}).values():
        if path.startswith(f"{layers}."):
            index = path.removeprefix(f"{layers}.").split(".")[0]
            return int(index) if index.isdigit() else None
    return None
