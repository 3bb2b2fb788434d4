"""Cycles in a directed graph."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)


def find_cycle(edges: Mapping[Node, Iterable[Node]]) -> list[Node]:
    """The nodes of one cycle in the order of its edges; empty where there is none.

    Depth-first search with a stack of its own: graphs here are deeper than Python's. Deterministic
    for a deterministic order of `edges`.
    """
    done: set[Node] = set()
    for start in edges:
        if start in done:
            continue
        path: dict[Node, None] = {start: None}
        stack = [iter(edges[start])]
        while stack:
            following = next(stack[-1], None)
            if following is None:
                stack.pop()
                done.add(path.popitem()[0])
            elif following in path:
                nodes = list(path)
                return nodes[nodes.index(following) :]
            elif following not in done:
                path[following] = None
                stack.append(iter(edges.get(following, ())))
    return []


def followers_last(edges: Mapping[Node, Iterable[Node]]) -> list[Node]:
    """The nodes in an order in which the ends of a node's edges stand before it, as far as there
    are no cycles."""
    done: dict[Node, None] = {}
    seen: set[Node] = set()
    for start in edges:
        stack = [start]
        while stack:
            node = stack[-1]
            if node in seen:
                done[stack.pop()] = None
                continue
            seen.add(node)
            stack += [end for end in edges.get(node, ()) if end not in seen]
    return list(done)
