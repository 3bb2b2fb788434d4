"""The tree of one net: shortest paths from the tree to the next terminal (A*), free or west-first.

The turn model west-first forbids every turn to the west, so that all hops west come before all
others; routes that keep it cannot deadlock on a mesh (Glass & Ni, ISCA 1992). A net with many
sources is grown backwards from its sink, with the rule read backwards. A tree never enters a switch
of its own twice: two arrivals of one flow would be false dependencies.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hetc.backends.dataflow.mesh import WEST, Mesh

# The cost of a hop over a link that is not full; costs are integers.
HOP_COST = 16

LinkCost = Callable[[int], int]


@dataclass
class Tree:
    """Switches of a growing tree, and its paths as links in the direction of the data.

    `bound` is the state of the turn model at each switch. Forwards: whether a hop west may follow,
    which is so at the source and after a hop west. Backwards: whether only a hop west may come
    before, which is so where the data leaves to the west.
    """

    mesh: Mesh
    root: int
    gathers: bool
    west_first: bool
    bound: dict[int, bool] = field(init=False)
    paths: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bound = {self.root: not self.gathers}

    def connect(self, terminal: int, cost: LinkCost) -> bool:
        """Grow the cheapest path to `terminal`; False where the turn model leaves none."""
        if terminal in self.bound:
            return True
        path = self._search(terminal, cost)
        if path is None:
            return False
        self._add(path)
        return True

    def _add(self, path: list[int]) -> None:
        """Take in links that run from the tree to the terminal, or from it to the tree."""
        for link in path:
            here = link // 4 if self.gathers else self.mesh.ends[link]
            self.bound[here] = link % 4 == WEST
        self.paths.append(path)

    def _search(self, terminal: int, cost: LinkCost) -> list[int] | None:
        mesh, steps = self.mesh, self._steps
        columns, rows, wraps = mesh.columns, mesh.rows, mesh.wraps and not self.west_first
        goal_y, goal_x = divmod(terminal, columns)

        def remaining(switch: int) -> int:
            y, x = divmod(switch, columns)
            dx, dy = abs(x - goal_x), abs(y - goal_y)
            if wraps:
                dx, dy = min(dx, columns - dx), min(dy, rows - dy)
            return (dx + dy) * HOP_COST

        # A state is 2 * switch + bound. Of equal estimates the farther from the tree goes first.
        heap = [(remaining(switch), 0, 2 * switch + bound) for switch, bound in self.bound.items()]
        heapq.heapify(heap)
        best = {state: 0 for _, _, state in heap}
        came: dict[int, tuple[int, int]] = {}
        while heap:
            _, negative, state = heapq.heappop(heap)
            spent = -negative
            if spent > best[state]:
                continue
            if state // 2 == terminal:
                return self._trace(came, state)
            for link, switch, bound in steps(state):
                reached = spent + cost(link)
                following = 2 * switch + bound
                if switch not in self.bound and reached < best.get(following, reached + 1):
                    best[following] = reached
                    came[following] = (state, link)
                    heapq.heappush(heap, (reached + remaining(switch), -reached, following))
        return None

    def _steps(self, state: int) -> list[tuple[int, int, bool]]:
        """Links by which the tree may grow at a state, with the switch and state they lead to."""
        mesh, (switch, bound) = self.mesh, divmod(state, 2)
        found = []
        for direction in range(4):
            west = direction == WEST
            if self.west_first and (bound and not west if self.gathers else west and not bound):
                continue
            if self.gathers:
                before = mesh.ends[4 * switch + (direction + 2) % 4]
                link, other = 4 * before + direction, before
            else:
                link = 4 * switch + direction
                other = mesh.ends[link]
            if other >= 0 and not (self.west_first and mesh.wraps and mesh.wrapping(link)):
                found.append((link, other, west))
        return found

    def _trace(self, came: dict[int, tuple[int, int]], state: int) -> list[int]:
        links = []
        while state in came:
            state, link = came[state]
            links.append(link)
        return links if self.gathers else links[::-1]


def grow(
    mesh: Mesh,
    root: int,
    terminals: Sequence[int],
    cost: LinkCost,
    *,
    gathers: bool,
    west_first: bool,
) -> list[list[int]]:
    """Paths that join `root` with all terminals, in the order in which they were grown.

    Terminals are taken from the nearest on; under the turn model from the westernmost on
    (gathering: easternmost), so that the trunk reaches as far west as any of them needs. Where a
    bend of the tree still shuts one out, the tree is routed along rows first and columns second,
    which keeps the model.
    """

    def distance(switch: int) -> int:
        (y, x), (root_y, root_x) = divmod(switch, mesh.columns), divmod(root, mesh.columns)
        return abs(x - root_x) + abs(y - root_y)

    def rank(switch: int) -> tuple[int, int, int]:
        column = switch % mesh.columns if west_first else 0
        return (-column if gathers else column, distance(switch), switch)

    tree = Tree(mesh, root, gathers, west_first)
    if all(tree.connect(terminal, cost) for terminal in sorted(terminals, key=rank)):
        return tree.paths
    return _rows_first(mesh, root, terminals, gathers=gathers)


def _rows_first(
    mesh: Mesh, root: int, terminals: Sequence[int], *, gathers: bool
) -> list[list[int]]:
    """The dimension-ordered tree: every path along its source's row, then along a column."""
    seen, paths = {root}, []
    for terminal in terminals:
        source, sink = (terminal, root) if gathers else (root, terminal)
        path = _row_then_column(mesh, source, sink)
        fresh = [link for link in path if (link // 4 if gathers else mesh.ends[link]) not in seen]
        seen.update(link // 4 if gathers else mesh.ends[link] for link in fresh)
        if fresh:
            paths.append(fresh)
    return paths


def _row_then_column(mesh: Mesh, source: int, sink: int) -> list[int]:
    (y, x), (sink_y, sink_x) = divmod(source, mesh.columns), divmod(sink, mesh.columns)
    directions = [0 if sink_x > x else 2] * abs(sink_x - x)
    directions += [3 if sink_y > y else 1] * abs(sink_y - y)
    links, here = [], source
    for direction in directions:
        links.append(4 * here + direction)
        here = mesh.ends[links[-1]]
    return links
