"""Routing: PathFinder's negotiated congestion, then a proof that no virtual channel can deadlock.

All nets are routed by shortest paths, then those on overfull links again and again at prices that
grow with overuse (McMurchie & Ebeling, FPGA 1995). Routes are free at first: kinds of nets are
spread over virtual channels, which mostly is enough (an experiment found it so for lane
placements). Where the dependencies of a virtual channel have a cycle, the nets that close it are
routed anew under the west-first turn model, and in the end all nets of that channel, which cannot
have one.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hetc.backends.dataflow.deadlock import dependencies, find_cycle
from hetc.backends.dataflow.fabric import Fabric
from hetc.backends.dataflow.mesh import (
    DIRECTIONS,
    Mesh,
    Path,
    Switch,
    half_of,
    mesh_of,
    port_number,
    switch_of,
)
from hetc.backends.dataflow.nets import Net, Network
from hetc.backends.dataflow.place import Placement
from hetc.backends.dataflow.trees import HOP_COST, grow

Rule = Literal["free", "mixed", "west-first"]

_ITERATIONS = 40
# An unroutable placement shows at once: good ones start with a few links over, bad ones with many.
_HOPELESS_SHARE = 4
_PATIENCE = 12
# Rounds of breaking cycles net by net before a whole virtual channel keeps the turn model.
_ROUNDS = 16


@dataclass(frozen=True)
class Route:
    """One net's tree; `mesh.py` says how paths are written and load is counted."""

    net: str
    kind: str
    network: Network
    vc: int
    bytes_per_cycle: int
    sources: tuple[str, ...]
    sinks: tuple[str, ...]
    tree: tuple[Path, ...]


@dataclass(frozen=True)
class VirtualChannel:
    """A virtual channel in use, and the rule under which its routes are free of deadlock.

    All were checked: `free` shortest paths, `west-first` paths, or some nets with the turn model.
    """

    network: Network
    vc: int
    rule: Rule


@dataclass(frozen=True)
class Routing:
    """Routes of all nets: no link carries more than its rate, no virtual channel can deadlock.

    `max_load` is the fullest link's bytes a cycle by network, `hops` the links of all trees.
    """

    routes: tuple[Route, ...]
    max_load: Mapping[Network, int]
    vcs: tuple[VirtualChannel, ...]
    hops: int
    overused: int = 0


@dataclass(frozen=True)
class Unroutable:
    """Why a placement cannot be routed: the worst link, what it would carry and what it can."""

    link: str
    network: Network
    demand: int
    bound: int
    overfull_links: int
    nets: tuple[str, ...]
    iterations: int


def route(fabric: Fabric, nets: Sequence[Net], placement: Placement) -> Routing | Unroutable:
    """Route all nets of a placement, or say where the network is too narrow."""
    return _Router(fabric, nets, placement).run()


class _Router:
    """The state of the negotiation: every net's paths, every link's load and price."""

    def __init__(self, fabric: Fabric, nets: Sequence[Net], placement: Placement) -> None:
        self.mesh = mesh_of(fabric)
        self.nets = nets
        self.ends = [_terminals(fabric, self.mesh, net, placement) for net in nets]
        self.capacity = _capacities(fabric, self.mesh, placement)
        links = len(self.mesh.ends)
        self.load: dict[Network, list[int]] = {network: [0] * links for network in self.capacity}
        self.price = {network: [HOP_COST] * links for network in self.capacity}
        self.paths: list[list[list[int]]] = [[] for _ in nets]
        self.pressure = 1
        self.west_first = [False] * len(nets)

    def run(self) -> Routing | Unroutable:
        # Wide nets first, so that they get the straight paths.
        order = sorted(range(len(self.nets)), key=lambda n: (-self.nets[n].bytes_per_cycle, n))
        todo = order
        for rounds in itertools.count():
            failure = self._negotiate(order, todo)
            if failure is not None:
                return failure
            breakers = {
                number
                for members in self._channels().values()
                for number in self._cycle_breakers(members, whole=rounds >= _ROUNDS)
            }
            if not breakers:
                return self._routing()
            todo = [number for number in order if number in breakers]
            for number in todo:
                self.west_first[number] = True
        raise AssertionError("itertools.count has no end")

    def _channels(self) -> dict[tuple[Network, int], list[int]]:
        """The nets of every virtual channel in use."""
        found: dict[tuple[Network, int], list[int]] = {}
        for number, net in enumerate(self.nets):
            found.setdefault((net.network, net.vc), []).append(number)
        return dict(sorted(found.items()))

    def _cycle_breakers(self, members: list[int], *, whole: bool) -> list[int]:
        """Free nets of a virtual channel without which its dependencies have no cycle.

        Each is the net that holds most of the cycle it breaks; `whole` asks for all free nets
        where there is a cycle at all.
        """
        left, breakers = list(members), list[int]()
        while cycle := find_cycle(dependencies(self.mesh, [self._links(n) for n in left])):
            free = [number for number in left if not self.west_first[number]]
            if whole:
                return free
            on_cycle = frozenset(cycle)
            breakers.append(max(free, key=lambda n: len(on_cycle.intersection(self._links(n)))))
            left.remove(breakers[-1])
        return breakers

    def _negotiate(self, order: list[int], todo: list[int]) -> Unroutable | None:
        """Route the nets `todo`, then whatever is on overfull links, until there are none."""
        fewest, since = len(self.mesh.ends) * 2 + 1, 0
        self.pressure = 1
        for iteration in range(1, _ITERATIONS + 1):
            for number in todo:
                self._reroute(number)
            overfull = self._overfull()
            if not overfull:
                return None
            if len(overfull) < fewest:
                fewest, since = len(overfull), iteration
            used = sum(load > 0 for loads in self.load.values() for load in loads)
            hopeless = iteration > 2 and len(overfull) * _HOPELESS_SHARE > used
            if hopeless or iteration - since > _PATIENCE or iteration == _ITERATIONS:
                return self._failure(overfull, iteration)
            for network, link in overfull:
                over = self.load[network][link] - self.capacity[network][link]
                self.price[network][link] += HOP_COST + over
            self.pressure += 1
            full = frozenset(overfull)
            todo = [n for n in order if self._uses(n, full)]
        raise AssertionError("the last iteration returns")

    def _reroute(self, number: int) -> None:
        net = self.nets[number]
        load, capacity = self.load[net.network], self.capacity[net.network]
        price, pressure, demand = self.price[net.network], self.pressure, net.bytes_per_cycle
        self._add_load(number, -demand)

        def cost(link: int) -> int:
            over = load[link] + demand - capacity[link]
            return price[link] * (1 + over * pressure) if over > 0 else price[link]

        root, terminals = self.ends[number]
        self.paths[number] = grow(
            self.mesh,
            root,
            terminals,
            cost,
            gathers=len(net.sources) > 1,
            west_first=self.west_first[number],
        )
        self._add_load(number, demand)

    def _add_load(self, number: int, amount: int) -> None:
        load = self.load[self.nets[number].network]
        for link in self._links(number):
            load[link] += amount

    def _overfull(self) -> list[tuple[Network, int]]:
        return [
            (network, link)
            for network, loads in self.load.items()
            for link, load in enumerate(loads)
            if load > self.capacity[network][link]
        ]

    def _uses(self, number: int, links: frozenset[tuple[Network, int]]) -> bool:
        network = self.nets[number].network
        return any((network, link) in links for link in self._links(number))

    def _links(self, number: int) -> list[int]:
        return [link for path in self.paths[number] for link in path]

    def _rule(self, members: list[int]) -> Rule:
        restricted = sum(self.west_first[number] for number in members)
        return "free" if not restricted else "west-first" if restricted == len(members) else "mixed"

    def _failure(self, overfull: list[tuple[Network, int]], iterations: int) -> Unroutable:
        network, link = max(
            overfull, key=lambda full: self.load[full[0]][full[1]] - self.capacity[full[0]][full[1]]
        )
        here = frozenset([(network, link)])
        y, x = divmod(link // 4, self.mesh.columns)
        return Unroutable(
            link=f"({x}, {y}) to the {DIRECTIONS[link % 4]}",
            network=network,
            demand=self.load[network][link],
            bound=self.capacity[network][link],
            overfull_links=len(overfull),
            nets=tuple(net.name for n, net in enumerate(self.nets) if self._uses(n, here)),
            iterations=iterations,
        )

    def _routing(self) -> Routing:
        routes = tuple(
            Route(
                net.name,
                net.kind,
                net.network,
                net.vc,
                net.bytes_per_cycle,
                net.sources,
                net.sinks,
                tuple(self.mesh.path(path) for path in paths),
            )
            for net, paths in zip(self.nets, self.paths, strict=True)
        )
        return Routing(
            routes=routes,
            max_load={network: max(loads) for network, loads in self.load.items()},
            vcs=tuple(
                VirtualChannel(network, vc, self._rule(members))
                for (network, vc), members in self._channels().items()
            ),
            hops=sum(len(path) for paths in self.paths for path in paths),
        )


def _terminals(fabric: Fabric, mesh: Mesh, net: Net, placement: Placement) -> tuple[int, list[int]]:
    """The switch of the single source or sink, and those of the units at the other end."""

    def number(unit: str, entering: bool) -> int:
        port = port_number(unit)
        if port is not None:
            return mesh.number(fabric.ports[port])
        half = half_of(unit, entering=entering, kind=net.kind)
        return mesh.number(switch_of(fabric, placement.sites[unit], half))

    sources = [number(unit, False) for unit in net.sources]
    sinks = [number(unit, True) for unit in net.sinks]
    (root,), others = (sources, sinks) if len(sources) == 1 else (sinks, sources)
    return root, list(dict.fromkeys(others))


def _capacities(fabric: Fabric, mesh: Mesh, placement: Placement) -> dict[Network, list[int]]:
    """Bytes a cycle that routes may use of every link; work lanes reserve their own stream's."""
    links = len(mesh.ends)
    vector = [fabric.link_bytes_per_cycle] * links
    if fabric.layout == "checkerboard":
        for unit, site in placement.sites.items():
            if unit.rpartition(".")[2][0] == "w":
                source: Switch = switch_of(fabric, site, "pmu")
                direction = DIRECTIONS.index(
                    "E" if switch_of(fabric, site, "pcu") > source else "W"
                )
                link = 4 * mesh.number(source) + direction
                vector[link] = max(0, vector[link] - fabric.pmu_bytes_per_cycle)
    return {"vector": vector, "scalar": [fabric.scalar_link_bytes_per_cycle] * links}
