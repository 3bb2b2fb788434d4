"""Deadlock freedom of routes: the channel dependency graph of every virtual channel has no cycle.

A channel is a link on one virtual channel of one network. A packet that holds a channel waits for
the next one of its route: that is a dependency, and wormhole routing cannot deadlock where
dependencies form no cycle (Dally & Seitz, IEEE TC 1987). A route stays on one virtual channel, so
each is looked at alone. Packets leave the network at units that buffer them; buffers between stages
are the planner's concern.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hetc.backends.dataflow.mesh import Mesh


def dependencies(mesh: Mesh, trees: Iterable[Sequence[int]]) -> dict[int, list[int]]:
    """Channel -> channels that a packet on it may wait for; `trees` are the links of each net."""
    found: dict[int, set[int]] = {}
    for links in trees:
        leaving: dict[int, list[int]] = {}
        for link in links:
            leaving.setdefault(link // 4, []).append(link)
        for link in links:
            found.setdefault(link, set()).update(leaving.get(mesh.ends[link], ()))
    return {link: sorted(found[link]) for link in sorted(found)}


def find_cycle(graph: dict[int, list[int]]) -> list[int]:
    """The channels of one cycle in the order of waiting, empty where the graph has none."""
    waiting = dict.fromkeys(graph, 0)
    for following in graph.values():
        for link in following:
            waiting[link] += 1
    free = [link for link, count in waiting.items() if count == 0]
    while free:
        for link in graph[free.pop()]:
            waiting[link] -= 1
            if waiting[link] == 0:
                free.append(link)
    # What is left has a predecessor that is left; following those back must come round.
    before = {
        link: holder
        for holder, following in graph.items()
        if waiting[holder]
        for link in following
        if waiting[link]
    }
    if not before:
        return []
    here, order = next(iter(before)), dict[int, int]()
    while here not in order:
        order[here] = len(order)
        here = before[here]
    return list(order)[order[here] :][::-1]
