"""Routes, checked from their run-length form with nothing of the router's: trees, loads, cycles."""

from __future__ import annotations

import dataclasses
from collections import Counter

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetc import targets
from hetc.backends.dataflow.fabric import Fabric, fabric_of
from hetc.backends.dataflow.layout import Layout, lay_out
from hetc.backends.dataflow.mesh import half_of, mesh_of, port_number, switch_of
from hetc.backends.dataflow.nets import Flow, StageUnits, build_nets
from hetc.backends.dataflow.place import Placement, PlaceOptions, place
from hetc.backends.dataflow.route import Route, Routing, Unroutable, route
from hetc.errors import PlanError
from tests.backends.dataflow.layers import llama_8b_layer, sections
from tests.golden import Golden

GRID = fabric_of(targets.load("grid-8x8"))
QUICK = PlaceOptions(moves=2_000)


def check(fabric: Fabric, placement: Placement, routing: Routing) -> None:
    """Every route joins its ends by a tree, no link is overfull, no virtual channel has a cycle."""
    mesh = mesh_of(fabric)
    load: Counter[tuple[str, int]] = Counter()
    waits: dict[tuple[str, int], nx.DiGraph] = {}
    for found in routing.routes:
        links = [link for path in found.tree for link in mesh.links(path)]
        assert len(set(links)) == len(links)
        check_tree(fabric, placement, found, links)
        graph = waits.setdefault((found.network, found.vc), nx.DiGraph())
        graph.add_edges_from(
            (link, other) for link in links for other in links if mesh.ends[link] == other // 4
        )
        load.update({(found.network, link): found.bytes_per_cycle for link in links})
        assert found.vc < fabric.virtual_channels
    for channel in waits.values():
        assert nx.is_directed_acyclic_graph(channel)
    widths = {"vector": fabric.link_bytes_per_cycle, "scalar": fabric.scalar_link_bytes_per_cycle}
    for unit, site in placement.sites.items():
        if unit.rpartition(".")[2].startswith("w") and fabric.layout == "checkerboard":
            (x, y), (pcu_x, _) = (switch_of(fabric, site, half) for half in ("pmu", "pcu"))
            (own,) = mesh.links((x, y, "E1" if pcu_x > x else "W1"))
            load["vector", own] += min(fabric.pmu_bytes_per_cycle, fabric.link_bytes_per_cycle)
    assert all(amount <= widths[network] for (network, _), amount in load.items())
    assert routing.overused == 0
    assert routing.hops == sum(
        len(mesh.links(path)) for found in routing.routes for path in found.tree
    )


def check_tree(fabric: Fabric, placement: Placement, found: Route, links: list[int]) -> None:
    mesh = mesh_of(fabric)

    def switch(unit: str, *, entering: bool) -> int:
        port = port_number(unit)
        if port is not None:
            return mesh.number(fabric.ports[port])
        half = half_of(unit, entering=entering, kind=found.kind)
        return mesh.number(switch_of(fabric, placement.sites[unit], half))

    graph = nx.DiGraph()
    sources = {switch(unit, entering=False) for unit in found.sources}
    sinks = {switch(unit, entering=True) for unit in found.sinks}
    graph.add_nodes_from(sources | sinks)
    graph.add_edges_from((link // 4, mesh.ends[link]) for link in links)
    for source in sources:
        assert sinks <= nx.descendants(graph, source) | {source}
    degrees = graph.out_degree if len(found.sources) > 1 else graph.in_degree
    assert all(degree <= 1 for _, degree in degrees)
    assert nx.is_directed_acyclic_graph(graph)
    leaves = {node for node, degree in graph.out_degree if degree == 0}
    roots = {node for node, degree in graph.in_degree if degree == 0}
    assert leaves <= sinks, "no dead ends"
    assert roots <= sources


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_sections_route_on_every_kind_of_grid(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["grid-8x8", "plasticine", "wormhole"]))
    fabric = fabric_of(targets.load(name))
    fabric = dataclasses.replace(
        fabric,
        virtual_channels=data.draw(st.sampled_from([1, 2, 4])),
        link_bytes_per_cycle=data.draw(st.sampled_from([4, 8])) * fabric.port_bytes_per_cycle,
    )
    stages, flows = data.draw(sections(fabric))
    layout = lay_out(fabric, stages, flows, QUICK)
    check(fabric, layout.placement, layout.routing)


@pytest.mark.parametrize("lanes_a_port", [2, 4])
def test_a_layer_of_llama_routes(lanes_a_port: int) -> None:
    fabric = fabric_of(targets.load("sn40l:8"))
    stages, flows = llama_8b_layer(fabric, lanes_a_port)
    layout = lay_out(fabric, stages, flows, PlaceOptions(moves=30_000))
    check(fabric, layout.placement, layout.routing)


@pytest.mark.parametrize(("rounds", "rule"), [(16, "mixed"), (0, "west-first")])
def test_cycles_are_broken_by_the_turn_model(
    rounds: int, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hetc.backends.dataflow.route._ROUNDS", rounds)
    fabric = dataclasses.replace(fabric_of(targets.load("sn40l:8")), virtual_channels=2)
    stages, flows = llama_8b_layer(fabric, lanes_a_port=2)
    nets = build_nets(fabric, stages, flows)
    placement = place(fabric, stages, nets, PlaceOptions(moves=0))
    routing = route(fabric, nets, placement)
    assert isinstance(routing, Routing)
    check(fabric, placement, routing)
    assert rule in {used.rule for used in routing.vcs}


# One net of 64 B fits a link, and eight links lead from the western half to the eastern.
NARROW = dataclasses.replace(GRID, link_bytes_per_cycle=70)
WIDE_FLOWS = [Flow(f"west{number}", f"east{number}", 64) for number in range(10)]
WIDE_STAGES = [StageUnits(f"{half}{n}", work=1) for half in ("west", "east") for n in range(10)]
APART = dataclasses.replace(
    QUICK,
    pins={f"west{n}": (n % 2, n // 2) for n in range(10)}
    | {f"east{n}": (2 + n % 2, n // 2) for n in range(10)},
)


def test_an_unroutable_placement_says_where() -> None:
    nets = build_nets(NARROW, WIDE_STAGES, WIDE_FLOWS)
    found = route(NARROW, nets, place(NARROW, WIDE_STAGES, nets, APART))
    assert isinstance(found, Unroutable)
    assert found.demand > found.bound
    assert found.overfull_links >= 1
    assert set(found.nets) <= {net.name for net in nets}
    assert found.nets


def test_errors_of_routing(golden: Golden) -> None:
    with pytest.raises(PlanError, match="HETC-D121") as unroutable:
        lay_out(NARROW, WIDE_STAGES, WIDE_FLOWS, APART)
    with pytest.raises(PlanError, match="HETC-D120") as wide:
        lay_out(NARROW, WIDE_STAGES[:2], [Flow("west0", "west1", 71)], QUICK)
    golden("unroutable.txt", f"{wide.value}\n\n{unroutable.value}\n")


def test_a_layout_holds_only_plain_values() -> None:
    layout: Layout = lay_out(GRID, [StageUnits("a", work=2, outputs=1)], [], QUICK)
    plain = dataclasses.asdict(layout)
    assert plain["routing"]["routes"][0]["tree"]
    assert plain["placement"]["sites"]["a.w0"] == layout.placement.sites["a.w0"]
