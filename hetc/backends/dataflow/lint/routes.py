"""Routes: trees on the mesh, within the links' width, and without a circle of waiting channels."""

from __future__ import annotations

from typing import Literal

from hetc.backends.dataflow.lint.cycles import find_cycle
from hetc.backends.dataflow.lint.facts import Facts
from hetc.backends.dataflow.lint.finding import Fault, Faults, number, rule
from hetc.backends.dataflow.lint.mesh import Link
from hetc.backends.dataflow.schema import Section

Network = Literal["vector", "scalar"]


@rule(
    "HETC-L240",
    "every route is a tree on the mesh",
    "begin paths (or, into one sink, end them) at a switch of an earlier path; visit none twice",
)
def tree_shape(facts: Facts) -> Faults:
    count = 0
    for section in facts.plan.sections:
        for tree in facts.trees[section.id]:
            count += 1
            place = f"net {tree.route.net}"
            off = [
                path for path, links in zip(tree.route.paths, tree.paths, strict=True) if not links
            ]
            if off:
                yield Fault(place, f"the path {off[0]} of {place} is no path on the grid")
            elif tree.paths and tree.source is None and tree.sink is None:
                yield Fault(place, f"the paths of {place} are no tree out of or into one switch")
    return f"{count} routes"


@rule(
    "HETC-L241",
    "no link carries more than its width",
    "route nets around the link, move their units, or lower their demand",
)
def link_load(facts: Facts) -> Faults:
    fullest: dict[Network, float] = {}
    for section in facts.plan.sections:
        reserved = _reserved(facts, section)
        loads: dict[tuple[Network, Link], float] = {}
        for tree in facts.trees[section.id]:
            network, demand = tree.route.network, tree.route.bytes_per_cycle
            for link in tree.links:
                loads[network, link] = loads.get((network, link), 0) + demand
        for (network, link), load in loads.items():
            fullest[network] = max(fullest.get(network, 0), load)
            bound = _width(facts, network) - (reserved.get(link, 0) if network == "vector" else 0)
            if load > bound * (1 + 1e-9):
                place = f"{network} link {facts.mesh.told(link)}"
                text = f"the {place} carries {number(load)} bytes a cycle"
                text += f" of {number(bound)}: {number(load - bound)} too many"
                yield Fault(place, text, load, bound)
    told = [f"{network} {number(load)}" for network, load in sorted(fullest.items())]
    return f"bytes a cycle on the fullest link: {', '.join(told) or 'none'}"


def _width(facts: Facts, network: Network) -> float:
    if network == "scalar":
        return facts.grid.scalar_link_bytes_per_cycle.value
    return facts.grid.link_bytes_per_cycle.value


def _reserved(facts: Facts, section: Section) -> dict[Link, float]:
    """What work lanes keep of the link from their PMU to their PCU, for their own stream."""
    mesh = facts.mesh
    if not mesh.paired:
        return {}
    lanes = [site for unit, site in section.sites.items() if unit.rpartition(".")[2][:1] == "w"]
    ends = {mesh.memory_switch(site): mesh.compute_switch(site) for site in lanes}
    inner = {4 * start + (0 if end > start else 2): start for start, end in ends.items()}
    return dict.fromkeys(inner, facts.grid.memory_unit_bytes_per_cycle.value)


@rule(
    "HETC-L242",
    "every route takes a virtual channel that the network has",
    "use a channel below the number that the target states",
)
def channels(facts: Facts) -> Faults:
    bound = int(facts.grid.virtual_channels.value)
    highest = 0
    for section in facts.plan.sections:
        for route in section.routes:
            highest = max(highest, route.vc)
            if not 0 <= route.vc < bound:
                text = f"net {route.net} takes virtual channel {route.vc} of {bound}"
                yield Fault(f"net {route.net}", text, route.vc, bound - 1)
    return f"{highest + 1} of {bound} virtual channels"


@rule(
    "HETC-L243",
    "no circle of channels waits for each other",
    "put one of the nets on another virtual channel, or route it by a turn model",
)
def channel_cycles(facts: Facts) -> Faults:
    """Dally & Seitz 1987: without a cycle in the channel dependency graph there is no deadlock."""
    count = 0
    for section in facts.plan.sections:
        graphs: dict[tuple[Network, int], dict[Link, list[Link]]] = {}
        for tree in facts.trees[section.id]:
            graph = graphs.setdefault((tree.route.network, tree.route.vc), {})
            for link, following in tree.turns():
                graph.setdefault(link, []).append(following)
        for (network, vc), graph in sorted(graphs.items()):
            count += len(graph)
            cycle = find_cycle(graph)
            if cycle:
                place = f"virtual channel {vc} of the {network} network"
                text = f"{len(cycle)} links of {place} wait in a circle"
                first = " then ".join(facts.mesh.told(link) for link in cycle[:4])
                yield Fault(f"section {section.id}", f"{text}: {first}, ...", len(cycle), 0)
    return f"{count} channels"
