"""Puts a cut graph together again: PyTorch's nodes as they were, and one call for each region."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import count
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


def apart(module: GraphModule, region: Region, given: Sequence[Node]) -> Call:
    """A function that runs the nodes of `region` with PyTorch on what the nodes `given` make.

    Most are called once, for a comparison, and that goes node by node: it takes longer to write a
    program.
    """
    calls = count()
    program = cache(lambda: _program(module, region, given))

    def run(*arguments: Any) -> tuple[Any, ...]:
        first = next(calls) == 0
        results: tuple[Any, ...] = (
            _by_node(module, region, dict(zip(given, arguments, strict=True)))
            if first
            else program()(*arguments)
        )
        return results

    return run


def _by_node(module: GraphModule, region: Region, known: dict[Node, Any]) -> tuple[Any, ...]:
    from torch.fx import Interpreter

    interpreter = Interpreter(module)
    interpreter.env = known
    for node in region.nodes:
        known[node] = interpreter.run_node(node)
    return tuple(known[node] for node in region.outputs)


def _program(module: GraphModule, region: Region, given: Sequence[Node]) -> GraphModule:
    from torch.fx import Graph, GraphModule

    graph = Graph()
    new: dict[Node, Node] = {}
    for node in given:
        new[node] = graph.placeholder(node.name)
    for node in region.nodes:
        new[node] = graph.node_copy(node, new.__getitem__)
    graph.output(tuple(new[node] for node in region.outputs))
    return GraphModule(module, graph)
