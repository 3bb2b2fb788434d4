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
NAMES = {(1, 0): "E", (-1, 0): "W", (0, 1): "S", (0, -1): "N"}

# Lanes that read much stand between the rows of the memory ports (2 and 6), the others around them.
BUSY = [(x, y) for y in range(2, 6) for x in range(4)]
QUIET = [(x, y) for y in (1, 0, 6, 7) for x in range(4)]


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
    """Nets of one section on a mesh; every net is a tree out of one switch."""

    def __init__(self, mesh: Mesh, sites: dict[str, Point]) -> None:
        self.mesh = mesh
        self.sites = sites
        self.routes: list[Route] = []
        lanes = [unit for unit in sites if ".w" in unit]
        # The link inside a work lane is as wide as its stream: nothing is left of it.
        inner: dict[Hop, float] = {(self._half(u, False), self._half(u, True)): 64 for u in lanes}
        self.load: dict[Network, dict[Hop, float]] = {"vector": inner, "scalar": {}}
        self.after: dict[tuple[str, int], dict[Hop, set[Hop]]] = {}

    def net(self, source: str, sinks: Iterable[str], kind: str, demand: float) -> None:
        """One tree from a unit to others; none where all stand on its switch."""
        network: Network = "scalar" if kind == "operand" else "vector"
        hops: dict[Point, Hop] = {}
        paths = []
        start = self._point(source, leaving=True)
        for sink in sinks:
            points = self._search({start, *hops}, self._end(sink, kind), network, demand)
            hops |= {b: (a, b) for a, b in itertools.pairwise(points)}
            paths += [_path(points)] if len(points) > 1 else []
        for hop in hops.values():
            self.load[network][hop] = self.load[network].get(hop, 0) + demand
        if paths:
            name = f"{source}>{kind}.{len(self.routes)}"
            vc = self._channel(network, hops)
            self.routes.append(
                Route(
                    net=name,
                    kind=kind,
                    network=network,
                    vc=vc,
                    bytes_per_cycle=demand,
                    paths=tuple(paths),
                )
            )

    def _point(self, unit: str, *, leaving: bool) -> Point:
        """Where data leaves or reaches a unit: a work lane at its PCU, and at its PMU."""
        if unit.startswith("port."):
            y, x = divmod(self.mesh.ports[int(unit[5:])], self.mesh.columns)
            return x, y
        role = unit.rpartition(".")[2][0]
        return self._half(unit, role == "r" or (role == "w" and leaving))

    def _end(self, unit: str, kind: str) -> Point:
        return self._half(unit, True) if kind == "operand" else self._point(unit, leaving=False)

    def _half(self, unit: str, compute: bool) -> Point:
        half = self.mesh.compute_switch if compute else self.mesh.memory_switch
        y, x = divmod(half(self.sites[unit]), self.mesh.columns)
        return x, y

    def _search(self, tree: set[Point], end: Point, network: Network, demand: float) -> list[Point]:
        """The shortest way from a tree to a switch over links that have room."""
        width = 64 if network == "vector" else 16
        before: dict[Point, Point | None] = dict.fromkeys(sorted(tree))
        queue = deque(before)
        while end not in before:
            x, y = here = queue.popleft()
            for step_x, step_y in NAMES:
                to = x + step_x, y + step_y
                inside = 0 <= to[0] < self.mesh.columns and 0 <= to[1] < self.mesh.rows
                room = self.load[network].get((here, to), 0) + demand <= width
                if inside and room and to not in before:
                    before[to] = here
                    queue.append(to)
        points = [end]
        while (previous := before[points[-1]]) is not None:
            points.append(previous)
        return points[::-1]

    def _channel(self, network: str, hops: dict[Point, Hop]) -> int:
        """The first virtual channel on which these hops close no circle."""
        turns = [(hops[a], (a, b)) for a, b in hops.values() if a in hops]
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


def toy_routes(mesh: Mesh, blocks: Iterable[Block], sites: dict[str, Point]) -> tuple[Route, ...]:
    """All nets of a section that holds every stage of `blocks`."""
    router = ToyRouter(mesh, sites)
    blocks = list(blocks)
    stages = {stage.id: stage for block in blocks for stage in block.stages}
    streams = [stream for block in blocks for stream in block.streams]
    for port, lanes in _lanes_of_ports(stages, streams).items():
        router.net(f"port.{port}", lanes, "memory", 16)
    for stage in stages.values():
        _inside(router, stage)
    for block in blocks:
        for buffer in block.buffers:
            for exit in _exits(stages[buffer.producer]):
                here = [stages[name] for name in buffer.consumers if name in stages]
                entries = [entry for stage in here for entry in _entries(stage)]
                router.net(exit, entries, "activation", 1)
        for stage in block.stages:
            unit = _exits(stage)[0]
            if any(append.stage == stage.id for append in block.appends):
                router.net(unit, ["port.0"], "append", 1)
            if stage.collective is not None:
                router.net(unit, ["port.1"], "peer", 1)
                router.net("port.1", [unit], "peer", 1)
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
    for copy in names["x"]:
        router.net(copy, names["w"], "operand", 4)
    for lane in names["w"]:
        if names["r"]:
            router.net(lane, names["r"], "gather", 1)
    for unit in names["r"] or names["w"]:
        if names["b"]:
            router.net(unit, names["b"], "gather", 1)


def _exits(stage: Stage) -> list[str]:
    names = unit_names(stage)
    return names["b"] or names["r"] or names["w"]


def _entries(stage: Stage) -> list[str]:
    names = unit_names(stage)
    return names["x"] or names["w"] or names["b"]


def _path(points: list[Point]) -> Path:
    steps = [NAMES[b[0] - a[0], b[1] - a[1]] for a, b in itertools.pairwise(points)]
    runs = "".join(f"{name}{len(list(same))}" for name, same in itertools.groupby(steps))
    return (*points[0], runs)
