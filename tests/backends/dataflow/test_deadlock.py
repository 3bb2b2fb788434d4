"""Cycles of waiting channels: found where there are some, and only there."""

from __future__ import annotations

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from hetc import targets
from hetc.backends.dataflow.deadlock import dependencies, find_cycle
from hetc.backends.dataflow.fabric import fabric_of
from hetc.backends.dataflow.mesh import mesh_of
from hetc.backends.dataflow.trees import grow

MESH = mesh_of(fabric_of(targets.load("grid-8x8")))


def test_four_turns_around_a_square_wait_for_each_other() -> None:
    turns = [(0, 0, "E1S1"), (1, 0, "S1W1"), (1, 1, "W1N1"), (0, 1, "N1E1")]
    links = [MESH.links(turn) for turn in turns]
    cycle = find_cycle(dependencies(MESH, links))
    assert len(cycle) == 4
    assert sorted(cycle) == sorted({link for path in links for link in path})
    assert find_cycle(dependencies(MESH, links[:3])) == []


@given(st.dictionaries(st.integers(0, 12), st.sets(st.integers(0, 12), max_size=3)))
def test_cycles_are_those_that_networkx_finds(edges: dict[int, set[int]]) -> None:
    graph = {node: sorted(edges.get(node, ())) for node in range(13)}
    cycle = find_cycle(graph)
    reference = nx.DiGraph([(a, b) for a, others in graph.items() for b in others])
    assert bool(cycle) != nx.is_directed_acyclic_graph(reference)
    for here, following in zip(cycle, cycle[1:] + cycle[:1], strict=True):
        assert following in graph[here]


terminals = st.lists(st.integers(0, 63), min_size=1, max_size=12, unique=True)


@given(st.lists(st.tuples(st.integers(0, 63), terminals, st.booleans()), max_size=30), st.randoms())
def test_west_first_trees_never_deadlock(
    nets: list[tuple[int, list[int], bool]], rng: object
) -> None:
    prices = [16 + (link * 7919) % 97 for link in range(len(MESH.ends))]
    trees = []
    for root, others, gathers in nets:
        paths = grow(MESH, root, others, prices.__getitem__, gathers=gathers, west_first=True)
        links = [link for path in paths for link in path]
        trees.append(links)
        graph = nx.DiGraph([(link // 4, MESH.ends[link]) for link in links])
        graph.add_node(root)
        degrees = graph.out_degree if gathers else graph.in_degree
        assert all(degree <= 1 for _, degree in degrees)
        reach = nx.ancestors(graph, root) if gathers else nx.descendants(graph, root)
        assert set(others) <= reach | {root}
    assert find_cycle(dependencies(MESH, trees)) == []
