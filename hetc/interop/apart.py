"""Nodes of a captured graph, run by PyTorch apart from the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hetc.interop.regions import Region

if TYPE_CHECKING:
    from torch.fx import GraphModule, Interpreter, Node

Results = tuple[Any, ...]


class Apart:
    """The nodes of `region`, called with what the nodes `given` make.

    Most are called once, for a comparison, and that goes node by node: it takes longer to write a
    program.
    """

    def __init__(self, module: GraphModule, region: Region, given: Sequence[Node]) -> None:
        self._module, self._region, self._given = module, region, given
        self._calls = 0

    def __call__(self, *arguments: Any) -> Results:
        from torch.fx import Interpreter

        self._calls += 1
        if self._calls == 1:
            return self._by_node(Interpreter(self._module), arguments)
        results: Results = self._program(*arguments)
        return results

    def in_f32(self, *arguments: Any) -> Results:
        """The same without the rounding of numbers of 16 bits: f32 where they would be."""
        return self._by_node(_widened(self._module), arguments)

    def _by_node(self, interpreter: Interpreter, arguments: Sequence[Any]) -> Results:
        known = interpreter.env = dict(zip(self._given, arguments, strict=True))
        for node in self._region.nodes:
            known[node] = interpreter.run_node(node)
            for read in self._last_reads.get(node, ()):
                del known[read]
        return tuple(known[node] for node in self._region.outputs)

    @cached_property
    def _last_reads(self) -> Mapping[Node, list[Node]]:
        """Node -> what nobody reads behind it: its memory is free then."""
        last = {read: node for node in self._region.nodes for read in node.all_input_nodes}
        found: dict[Node, list[Node]] = {}
        for read in last.keys() - set(self._region.outputs):
            found.setdefault(last[read], []).append(read)
        return found

    @cached_property
    def _program(self) -> GraphModule:
        from torch.fx import Graph, GraphModule

        graph = Graph()
        new: dict[Node, Node] = {}
        for node in self._given:
            new[node] = graph.placeholder(node.name)
        for node in self._region.nodes:
            new[node] = graph.node_copy(node, new.__getitem__)
        graph.output(tuple(new[node] for node in self._region.outputs))
        return GraphModule(self._module, graph)


def _widened(module: GraphModule) -> Interpreter:
    import torch
    from torch.fx import Interpreter
    from torch.utils._pytree import tree_map

    narrow = (torch.bfloat16, torch.float16)

    def wide(item: Any) -> Any:
        if isinstance(item, torch.dtype):
            return torch.float32 if item in narrow else item
        return item.float() if isinstance(item, torch.Tensor) and item.dtype in narrow else item

    class Widened(Interpreter):
        def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
            return super().call_function(target, tree_map(wide, args), tree_map(wide, kwargs))

    return Widened(module)
