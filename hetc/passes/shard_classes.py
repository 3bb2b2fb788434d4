"""Classes of axes that are cut alike or not at all: the factors of a whole graph, joined.

`Axis` is what an axis is known by: that of a value, or of a weight as one op reads it. Each reader
may get another part of a weight, so that a weight does not tie its readers together.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.ir.ops.source import Weight
from hetc.passes.shard_factors import Factor, Place, factors

Holder = Value | tuple[Op, Value]
Axis = tuple[Holder, int]


def holder(op: Op, value: Value) -> Holder:
    """What is cut when `op` reads `value`."""
    return (op, value) if isinstance(value.op, Weight) else value


def axes_of(op: Op, places: Iterable[Place]) -> list[Axis]:
    return [(holder(op, place.value), place.axis) for place in places]


@dataclass(frozen=True)
class Grouped:
    """Two classes tied by grouped queries: `heads` of one are served by `keys` of the other."""

    heads: Axis
    keys: Axis
    heads_size: int
    keys_size: int


class AxisClasses:
    """Union-find over axes; each axis is `groups` copies of the axis of its class."""

    def __init__(self, graph: Graph, skipped: Collection[Op] = ()) -> None:
        """Join the factors of every op of `graph` but those `skipped`, which need all whole."""
        self.sizes: dict[Axis, int] = {}
        self.grouped: list[Grouped] = []
        # Op -> those of its factors that agree with all others.
        self.factors: dict[Op, list[Factor]] = {}
        self._parent: dict[Axis, tuple[Axis, Fraction]] = {}
        for op in graph.ops:
            found = () if op in skipped else factors(op)
            self.factors[op] = [factor for factor in found if self._join(op, factor)]

    def find(self, axis: Axis) -> tuple[Axis, Fraction]:
        """The axis that stands for the class of `axis`, and how many copies of it `axis` is."""
        path = []
        while (link := self._parent.get(axis)) is not None:
            path.append((axis, link[1]))
            axis = link[0]
        ratio = Fraction(1)
        for item, step in reversed(path):
            ratio *= step
            self._parent[item] = (axis, ratio)
        return axis, ratio

    def members(self) -> dict[Axis, list[tuple[Axis, int]]]:
        """Class -> its axes in the order of the graph, each with its number of groups."""
        table: dict[Axis, list[tuple[Axis, Fraction]]] = {}
        for axis in self.sizes:
            root, ratio = self.find(axis)
            table.setdefault(root, []).append((axis, ratio))
        result = {}
        for root, found in table.items():
            whole = math.lcm(*(ratio.denominator for _, ratio in found))
            common = math.gcd(*(int(ratio * whole) for _, ratio in found))
            result[root] = [(axis, int(ratio * whole) // common) for axis, ratio in found]
        return result

    def _join(self, op: Op, factor: Factor) -> bool:
        """Join the axes of a factor; False, and nothing joined, where others contradict it."""
        axes = axes_of(op, factor.places)
        ratios = [Fraction(place.groups) for place in factor.places]
        fewer = axes_of(op, factor.fewer)
        ones = [Fraction(1)] * len(fewer)
        if not self._agree(axes, ratios):
            return False
        # Keys may be in the class of their queries already, but only if cut like them.
        if fewer and not self._agree([axes[0], *fewer], [ratios[0], *ones]):
            return False
        for places, joined in ((factor.places, axes), (factor.fewer, fewer)):
            for place, axis in zip(places, joined, strict=True):
                assert isinstance(place.size, int)
                self.sizes.setdefault(axis, place.size)
        self._unite(axes, ratios)
        if fewer:
            self._unite(fewer, ones)
            self.grouped.append(
                Grouped(axes[0], fewer[0], self.sizes[axes[0]], self.sizes[fewer[0]])
            )
        return True

    def _agree(self, axes: Sequence[Axis], ratios: Sequence[Fraction]) -> bool:
        expected: dict[Axis, Fraction] = {}
        for axis, groups in zip(axes, ratios, strict=True):
            root, ratio = self.find(axis)
            if expected.setdefault(root, ratio / groups) != ratio / groups:
                return False
        return True

    def _unite(self, axes: Sequence[Axis], ratios: Sequence[Fraction]) -> None:
        if not axes:
            return
        first, ratio = self.find(axes[0])
        base = ratio / ratios[0]
        for axis, groups in zip(axes[1:], ratios[1:], strict=True):
            root, ratio = self.find(axis)
            if root != first:
                self._parent[root] = (first, base * groups / ratio)
