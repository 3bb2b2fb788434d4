"""Placement and routing of the toy plan: sites from a list, nets by breadth-first search.

Slow and without finesse, and so independent of the router of hetc and of the linter's own rules.
"""

from __future__ import annotations

import graphlib
import itertools
from collections import deque
from collections.abc import Iterable
from typing import Literal

from hetc.backends.dataflow.lint.mesh import Mesh
from hetc.backends.dataflow.lint.units import unit_names
from hetc.backends.dataflow.schema import Block, Route, Stage, Stream

Point = tuple[int, int]
Hop = tuple[Point, Point]
Path = tuple[int, int, str]
Network = Literal["vector", "scalar"]
WIDTH: dict[Network, int] = {"vector": 64, "scalar": 16}
NAMES = {(1, 0): "E", (-1, 0): "W", (0, 1): "S", (0, -1): "N"}

# Lanes that read much stand between the rows of the memory ports (2 and 6), the others around
# them, and on the switch of a port only in the end.
BUSY = [(x, y) for y in range(2, 6) for x in range(4)]
QUIET = [(x, y) for y in (1, 0, 6, 7) for x in range(4) if (x, y) != (3, 6)] + [(3, 6)]


def toy_sites(stages: Iterable[Stage]) -> dict[str, Point]:
    """A site for every unit; reducers share those of memory units of their stage."""
    busy, quiet = iter(BUSY), iter(QUIET)
    sites: dict[str, Point] = {}
    for stage in stages:
        names = unit_names(stage)
        for unit in names["w"]:
            sites[unit] = next(busy if stage.units.lanes > 1 else quiet)
        memory = names["x"] + names["b"]
        for unit in memory:
            sites[unit] = next(quiet)
        for unit, beside in zip(names["r"], memory, strict=False):
            sites[unit] = sites[beside]
    return sites


class ToyRouter:
    """Nets of one section on a mesh, each a tree out of one switch or into one."""

    def __init__(self, mesh: Mesh, sites: dict[str, Point]) -> None:
        self.mesh = mesh
        self.sites = sites
        self.routes: list[Route] = []
        lanes = [unit for unit in sites if ".w" in unit]
        # The link inside a work lane is as wide as its stream: nothing is left of it.
        inner: dict[Hop, float] = {(self._half(u, False), self._half(u, True)): 64 for u in lanes}
        self.load: dict[Network, dict[Hop, float]] = {"vector": inner, "scalar": {}}
        self.after: dict[tuple[str, int], dict[Hop, set[Hop]]] = {}

    def net(self, key: str, source: str, sinks: Iterable[str], kind: str, demand: float) -> None:
        """One tree from a unit to others; none where all stand on its switch."""
        tree = {self._leave(source)}
        paths = []
        for sink in sinks:
            end = self._half(sink, True) if kind == "operand" else self._enter(sink)
            paths.append(self._search(tree, {end}, kind, demand))
            tree.update(paths[-1])
        self._add(key, kind, demand, paths)

    def gather(self, key: str, sources: Iterable[str], sink: str, kind: str, demand: float) -> None:
        """One tree from units into another."""
        tree = {self._enter(sink)}
        paths = []
        for source in sources:
            paths.append(self._search({self._leave(source)}, tree, kind, demand))
            tree.update(paths[-1])
        self._add(key, kind, demand, paths)

    def _add(self, key: str, kind: str, demand: float, paths: list[list[Point]]) -> None:
        network = _network(kind)
        hops = [hop for points in paths for hop in itertools.pairwise(points)]
        for hop in hops:
            self.load[network][hop] = self.load[network].get(hop, 0) + demand
        if hops:
            route = Route(
                net=key,
                kind=kind,
                network=network,
                vc=self._channel(network, hops),
                bytes_per_cycle=demand,
                paths=tuple(_path(points) for points in paths if len(points) > 1),
            )
            self.routes.append(route)

    def _leave(self, unit: str) -> Point:
        return self._port(unit) or self._half(unit, unit.rpartition(".")[2][0] in "wr")

    def _enter(self, unit: str) -> Point:
        return self._port(unit) or self._half(unit, unit.rpartition(".")[2][0] == "r")

    def _port(self, unit: str) -> Point | None:
        name, _, number = unit.partition(".")
        if name not in ("port", "peer"):
            return None
        y, x = divmod(self.mesh.ports[int(number)], self.mesh.columns)
        return x, y

    def _half(self, unit: str, compute: bool) -> Point:
        half = self.mesh.compute_switch if compute else self.mesh.memory_switch
        y, x = divmod(half(self.sites[unit]), self.mesh.columns)
        return x, y

    def _search(
        self, starts: set[Point], ends: set[Point], kind: str, demand: float
    ) -> list[Point]:
        """The shortest way between two sets of switches over links that have room."""
        load, width = self.load[_network(kind)], WIDTH[_network(kind)]
        before: dict[Point, Point | None] = dict.fromkeys(sorted(starts))
        queue = deque(before)
        while not (reached := sorted(ends & before.keys())):
            x, y = here = queue.popleft()
            for step_x, step_y in NAMES:
                to = x + step_x, y + step_y
                inside = 0 <= to[0] < self.mesh.columns and 0 <= to[1] < self.mesh.rows
                room = load.get((here, to), 0) + demand <= width
                if inside and room and to not in before:
                    before[to] = here
                    queue.append(to)
        points = [reached[0]]
        while (previous := before[points[-1]]) is not None:
            points.append(previous)
        return points[::-1]

    def _channel(self, network: Network, hops: list[Hop]) -> int:
        """The first virtual channel on which these hops close no circle."""
        turns = [(one, other) for one in hops for other in hops if one[1] == other[0]]
        for vc in range(4):
            graph = self.after.setdefault((network, vc), {})
            tried = {hop: set(following) for hop, following in graph.items()}
            for hop, following in turns:
                tried.setdefault(hop, set()).add(following)
            try:
                graphlib.TopologicalSorter(tried).prepare()
            except graphlib.CycleError:
                continue
            self.after[network, vc] = tried
            return vc
        raise AssertionError("the toy plan needs another placement")


def _network(kind: str) -> Network:
    return "scalar" if kind == "operand" else "vector"


def toy_routes(mesh: Mesh, blocks: Iterable[Block], sites: dict[str, Point]) -> tuple[Route, ...]:
    """All nets of a section that holds every stage of `blocks`."""
    router = ToyRouter(mesh, sites)
    blocks = list(blocks)
    stages = {stage.id: stage for block in blocks for stage in block.stages}
    streams = [stream for block in blocks for stream in block.streams]
    for port, lanes in _lanes_of_ports(stages, streams).items():
        router.net(f"memory.{port}", f"port.{port}", lanes, "memory", 16)
    for stage in stages.values():
        _inside(router, stage)
    flows: dict[tuple[str, str], None] = {}
    for block in blocks:
        for buffer in block.buffers:
            flows |= {(buffer.producer, sink): None for sink in buffer.consumers if sink in stages}
    for producer, consumer in flows:
        name = f"{producer}>{consumer}.activation"
        exits, entries = _exits(stages[producer]), _entries(stages[consumer])
        if len(entries) == 1:
            router.gather(name, exits, entries[0], "activation", 1)
        else:
            for number, unit in enumerate(exits):
                router.net(f"{name}.{number}", unit, entries, "activation", 1)
    for block in blocks:
        for stage in block.stages:
            unit, name = _exits(stage)[0], stage.id
            if any(append.stage == name for append in block.appends):
                router.net(f"{name}>port.0.append", unit, ["port.0"], "append", 1)
            if stage.collective is not None:
                router.net(f"{name}>peer.1.peer", unit, ["peer.1"], "peer", 1)
                router.net(f"peer.1>{name}.peer", "peer.1", [unit], "peer", 1)
    return tuple(router.routes)


def _lanes_of_ports(stages: dict[str, Stage], streams: list[Stream]) -> dict[int, list[str]]:
    """Lane i of a stage takes every port whose number is i, counted over the lanes."""
    found: dict[int, list[str]] = {}
    for stream in streams:
        lanes = unit_names(stages[stream.stage])["w"]
        for port in stream.ports:
            fed = found.setdefault(port, [])
            if lanes[port % len(lanes)] not in fed:
                fed.append(lanes[port % len(lanes)])
    return found


def _inside(router: ToyRouter, stage: Stage) -> None:
    names = unit_names(stage)
    for first in names["x"][:1]:
        router.net(f"{stage.id}.broadcast", first, names["x"][1:], "broadcast", 1)
    for place, copy in enumerate(names["x"]):
        lanes = names["w"][place :: len(names["x"])]
        router.net(f"{copy}.operand", copy, lanes, "operand", 4)
    for reducer in names["r"]:
        router.gather(f"{reducer}.gather", names["w"], reducer, "gather", 1)
    for output in names["b"]:
        router.gather(f"{output}.gather", names["r"] or names["w"], output, "gather", 1)


def _exits(stage: Stage) -> list[str]:
    names = unit_names(stage)
    return names["b"] or names["r"] or names["w"]


def _entries(stage: Stage) -> list[str]:
    names = unit_names(stage)
    return names["x"][:1] or names["w"] or names["b"]


def _path(points: list[Point]) -> Path:
    steps = [NAMES[b[0] - a[0], b[1] - a[1]] for a, b in itertools.pairwise(points)]
    runs = "".join(f"{name}{len(list(same))}" for name, same in itertools.groupby(steps))
    return (*points[0], runs)
