"""A route as a tree of links on the mesh."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from hetc.backends.dataflow.lint.mesh import Link, Mesh, Switch
from hetc.backends.dataflow.schema import Route


@dataclass(frozen=True)
class Tree:
    """A route on the mesh: its links, path by path. Broken paths are empty."""

    route: Route
    mesh: Mesh
    paths: tuple[list[Link], ...]

    @cached_property
    def links(self) -> dict[Link, None]:
        """Every link once: what is multicast goes over it once."""
        return dict.fromkeys(link for path in self.paths for link in path)

    @cached_property
    def entered(self) -> frozenset[Switch]:
        return frozenset(self.mesh.ends[link] for link in self.links)

    @cached_property
    def left(self) -> frozenset[Switch]:
        return frozenset(link // 4 for link in self.links)

    @cached_property
    def source(self) -> Switch | None:
        """The root of a tree that goes out of it: each path begins at a switch that an earlier one
        passed, and no switch is entered twice. None where it is no such tree."""
        seen: set[Switch] = set()
        for path in self.paths:
            if not path or (seen and path[0] // 4 not in seen):
                return None
            seen.add(path[0] // 4)
            for link in path:
                end = self.mesh.ends[link]
                if end in seen:
                    return None
                seen.add(end)
        return self.paths[0][0] // 4 if self.paths else None

    @cached_property
    def sink(self) -> Switch | None:
        """The root of a tree that goes into it: each path ends at a switch that an earlier one
        passed, and no switch is left twice. None where it is no such tree."""
        seen: set[Switch] = set()
        for path in self.paths:
            end = self.mesh.ends[path[-1]] if path else None
            if end is None or (seen and end not in seen):
                return None
            seen.add(end)
            for link in reversed(path):
                if link // 4 in seen:
                    return None
                seen.add(link // 4)
        return self.mesh.ends[self.paths[0][-1]] if self.paths else None

    def turns(self) -> Iterator[tuple[Link, Link]]:
        """Pairs of links that data takes one after the other."""
        leaving: dict[Switch, list[Link]] = {}
        for link in self.links:
            leaving.setdefault(link // 4, []).append(link)
        for link in self.links:
            for following in leaving.get(self.mesh.ends[link], ()):
                yield link, following


def tree_of(mesh: Mesh, route: Route) -> Tree:
    """The links of a route."""
    return Tree(route, mesh, tuple(mesh.walk(path) for path in route.paths))
