"""Where to put the state: the cheapest values to keep per token, by a minimum cut.

Everything that only keys and values are made from could be kept instead of them. A cut of those
values that separates the tokens from all attention keys and values, with the fewest bytes a token,
is the state: grouped heads before they are repeated, the latent of MLA.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain

from hetc.ir.dims import evaluate, exact_div
from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention
from hetc.passes.tokens import LENGTH, TokenAxis


def place_state(
    graph: Graph, axes: dict[Value, TokenAxis | None], more: Collection[Value] = ()
) -> list[Value]:
    """The values to keep, in graph order. `axes` has the token axis of every value that data flows
    through; `more` is read of every key beside keys and values."""
    attended = (value for op in graph.ops if isinstance(op, Attention) for value in (op.k, op.v))
    read = chain(attended, more)
    # Keys that depend on positions alone are computed again for every position, and not kept.
    roots = {value: None for value in read if axes.get(value) is not None}
    exclusive = _exclusive(graph, set(roots))
    position = {value: index for index, op in enumerate(graph.ops) for value in op.results}
    kept: list[Value] = []
    for group in _components(graph, list(roots), exclusive, axes):
        kept.extend(_cut(group, roots, exclusive, axes))
    return sorted(dict.fromkeys(kept), key=lambda value: position.get(value, -1))


def _exclusive(graph: Graph, roots: set[Value]) -> set[Value]:
    """Values whose every use leads to keys or values of an attention and nowhere else."""
    shared = set(graph.outputs)
    for op in reversed(graph.ops):
        if isinstance(op, Attention):
            shared.update(value for value in op.operands if value is not op.k and value is not op.v)
            if op.q is op.k or op.q is op.v:
                shared.add(op.q)
        elif any(value in shared for value in op.results) or not any(
            value in roots or value not in shared for value in op.results
        ):
            shared.update(op.operands)
    return {value for op in graph.ops for value in op.results if value not in shared}


def _components(
    graph: Graph, roots: Sequence[Value], exclusive: set[Value], axes: dict[Value, TokenAxis | None]
) -> list[list[Op]]:
    """The producing ops of the roots, grouped by shared exclusive values: one small problem a
    layer."""
    parent: dict[Op, Op] = {}

    def find(op: Op) -> Op:
        while parent[op] is not op:
            parent[op] = parent[parent[op]]
            op = parent[op]
        return op

    stack = [value.op for value in roots if value.op is not None]
    for op in stack:
        parent.setdefault(op, op)
    while stack:
        op = stack.pop()
        for value in op.operands:
            source = value.op
            if source is None or value not in exclusive or axes.get(value) is None:
                continue
            if source not in parent:
                parent[source] = source
                stack.append(source)
            parent[find(source)] = find(op)
    for attention in (op for op in graph.ops if isinstance(op, Attention)):
        k, v = attention.k.op, attention.v.op
        if k in parent and v in parent:
            parent[find(v)] = find(k)
    groups: dict[Op, list[Op]] = {}
    for op in graph.ops:
        if op in parent:
            groups.setdefault(find(op), []).append(op)
    return list(groups.values())


def _cut(
    ops: Sequence[Op],
    roots: dict[Value, None],
    exclusive: set[Value],
    axes: dict[Value, TokenAxis | None],
) -> list[Value]:
    import networkx as nx

    flow: nx.DiGraph[object] = nx.DiGraph()
    inside = {value for op in ops for value in op.results if value in exclusive or value in roots}
    for op in ops:
        data = [value for value in op.operands if axes.get(value) is not None]
        free = not data or any(value not in inside or value not in exclusive for value in data)
        for value in op.results:
            if value not in inside:
                continue
            axis = axes.get(value)
            if axis is not None and axis.is_whole:
                flow.add_edge((value, "in"), (value, "out"), capacity=_bytes_per_token(value))
            else:
                flow.add_edge((value, "in"), (value, "out"))
            if free:
                flow.add_edge("source", (value, "in"))
            for operand in data:
                if operand in inside and operand in exclusive:
                    flow.add_edge((operand, "out"), (value, "in"))
            if value in roots:
                flow.add_edge((value, "out"), "sink")
    # networkx gives the minimum cut nearest to the sink, so that least is computed again each step:
    # MLA keeps the normed latent and the rotated key, which together are as wide as what both are
    # made from.
    _, (_, near) = nx.minimum_cut(flow, "source", "sink")
    return [value for value in inside if (value, "out") in near and (value, "in") not in near]


def _bytes_per_token(value: Value) -> int:
    return evaluate(exact_div(value.nbytes, LENGTH), {"B": 1})
