"""Puts a cut graph together again: PyTorch's nodes as they were, and one call for each region."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hetc.interop.regions import Region

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

Call = Callable[..., Any]


def assemble(
    module: GraphModule,
    order: Sequence[Node | Region],
    calls: Mapping[int, tuple[Call, Sequence[Node]]],
) -> GraphModule:
    """A module that runs `order`; `calls` has for each region by number what runs it, and the nodes
    that it is given."""
    from torch.fx import Graph, GraphModule

    graph = Graph()
    new: dict[Node, Node] = {}
    for node in module.graph.find_nodes(op="placeholder"):
        new[node] = graph.node_copy(node)
    for item in order:
        if not isinstance(item, Region):
            if item not in new:
                new[item] = graph.node_copy(item, new.__getitem__)
            continue
        call, given = calls[item.number]
        made = graph.call_function(call, tuple(new[node] for node in given))
        for index, node in enumerate(item.outputs):
            new[node] = graph.call_function(operator.getitem, (made, index))
            new[node].meta = dict(node.meta)
    (output,) = module.graph.find_nodes(op="output")
    graph.node_copy(output, new.__getitem__)
    return GraphModule(module, graph)
