"""Cuts within the devices' memories: Lagrangian relaxation on bytes, with a bound.

A price on every byte held moves nodes away from a full device; the cheapest cut at any price, less
the price of what the devices may hold, is a lower bound of every cut that fits (Geoffrion 1974).
Identical layers leave a device all at the same price, so that between the last cut that does not
fit and the first that does, a prefix or suffix of the layers that differ is moved.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from hetc.passes.partition_mincut import CutNetwork, cut_network
from hetc.passes.partition_problem import Floats, Ints, Problem

# Halvings of the logarithm of the price, which then is known to 1 in 10,000.
_STEPS = 20
# So few nodes are tried in every combination.
_FEW = 8
# Passes over both prices when both memories are short.
_ROUNDS = 3


@dataclass(frozen=True)
class Solution:
    """An assignment, its seconds, a bound that no assignment beats, and how both were found.

    `assignment` is None where none that fits was found; `lower_bound` then is of no use.
    """

    assignment: Ints | None
    seconds: float
    lower_bound: float
    method: str

    @property
    def gap(self) -> float:
        """How far the solution may be from the best: (seconds - bound) / seconds."""
        if self.seconds <= 0 or self.assignment is None:
            return 0.0
        return max(0.0, 1 - self.lower_bound / self.seconds)


def solve_two(problem: Problem, network: CutNetwork | None = None) -> Solution:
    """The best assignment of a two-device problem: exact where memory suffices, else with a bound.

    `network` is the problem's own where it is known from another workload.
    """
    free, seconds = (network or cut_network(problem)).solve(problem)
    if problem.fits(free):
        return Solution(free, seconds, seconds, "min-cut")
    if len(problem.seconds) <= _FEW:
        return _enumerate(problem)
    return _Relaxation(problem, cut_network(problem, with_stores=True), free, seconds).solve()


def _enumerate(problem: Problem) -> Solution:
    best: Ints | None = None
    least = float("inf")
    for choice in itertools.product((0, 1), repeat=len(problem.seconds)):
        assignment = np.array(choice, dtype=np.int64)
        seconds = problem.total(assignment)
        if seconds < least and problem.fits(assignment):
            best, least = assignment, seconds
    return Solution(best, least, least, "enumeration")


class _Relaxation:
    """Searches the prices of both memories and keeps the best bound and the best cut that fits."""

    def __init__(self, problem: Problem, network: CutNetwork, free: Ints, seconds: float) -> None:
        self.problem = problem
        self.network = network
        self.bound = seconds
        self.best: Ints | None = None
        self.seconds = float("inf")
        self.over = free
        # A byte that costs more than everything together leaves wherever it can.
        largest = float(np.where(problem.allowed, problem.seconds, 0.0).sum())
        every = np.arange(len(problem.nets))
        ends = (np.zeros_like(every), np.ones_like(every))
        largest += float(problem.crossing_seconds(every, *ends).sum()) + 1e-9
        smallest = float(problem.store_bytes[problem.store_bytes > 0].min(initial=1.0))
        self.dearest = 2 * largest / smallest

    def solve(self) -> Solution:
        for uniform in (0, 1):
            self._offer(self.problem.uniform(uniform))
        price = np.zeros(2)
        for _ in range(_ROUNDS):
            before = price.copy()
            for device in (0, 1):
                self._search(price, device)
            if (price == before).all():
                break
        self._mend()
        return Solution(self.best, self.seconds, min(self.bound, self.seconds), "lagrangian")

    def _search(self, price: Floats, device: int) -> None:
        """The lowest price of one memory at which what it holds fits; the other price stays."""
        low, high = 0.0, self.dearest
        if self._fits_at(price, device, low):
            price[device] = low
            return
        if not self._fits_at(price, device, high):
            price[device] = high
            return
        # Prices differ by orders of magnitude: halve their logarithm.
        low = high * 2.0**-60
        for _ in range(_STEPS):
            middle = float(np.sqrt(low * high))
            if self._fits_at(price, device, middle):
                high = middle
            else:
                low = middle
        price[device] = high

    def _fits_at(self, price: Floats, device: int, number: float) -> bool:
        price[device] = number
        assignment, value = self.network.solve(self.problem, tuple(price))
        self.bound = max(self.bound, value - float(price @ self.problem.capacity))
        if not self._offer(assignment):
            self.over = assignment
        return bool(self.problem.held(assignment)[device] <= self.problem.capacity[device])

    def _offer(self, assignment: Ints) -> bool:
        """Keep an assignment that fits if it is the best; answers whether it fits."""
        if not self.problem.fits(assignment):
            return False
        seconds = self.problem.total(assignment)
        if seconds < self.seconds:
            self.best, self.seconds = assignment, seconds
        return True

    def _mend(self) -> None:
        """Move a prefix or a suffix of the layers from the cut that does not fit to one that does.

        Where no cut that fits is known, from everything on one device to everything on the other.
        """
        pairs = [(self.over, self.best)] if self.best is not None else []
        pairs += [(self.problem.uniform(0), self.problem.uniform(1))]
        order = self._by_depth()
        for start, end in pairs:
            assert end is not None
            differing = order[start[order] != end[order]]
            for moved in (differing, differing[::-1]):
                self._walk(start, end, moved)

    def _by_depth(self) -> Ints:
        """Nodes by how deep in the model they are, so that a layer's two phases move together.

        The first use of a store common to both phases says how deep a node is.
        """
        depth = np.arange(len(self.problem.seconds), dtype=np.float64)
        for store in self.problem.stores:
            depth[list(store.users)] = np.minimum(depth[list(store.users)], min(store.users))
        return np.argsort(depth, kind="stable")

    def _walk(self, start: Ints, end: Ints, moved: Ints) -> None:
        """Offer mixtures: the first nodes of `moved` as in `end`, the others as in `start`.

        What is held on the overfull device shrinks as more nodes move, so that the fewest moves
        that fit are found by bisection; the cuts next to them are offered too.
        """
        low, high = 0, len(moved)
        while low < high:
            middle = (low + high) // 2
            if self._offer(self._mixed(start, end, moved[:middle])):
                high = middle
            else:
                low = middle + 1
        for count in range(low, min(low + 64, len(moved)) + 1):
            self._offer(self._mixed(start, end, moved[:count]))

    def _mixed(self, start: Ints, end: Ints, moved: Ints) -> Ints:
        mixed = start.copy()
        mixed[moved] = end[moved]
        return np.where(
            self.problem.allowed[np.arange(len(mixed)), mixed], mixed, 1 - mixed
        ).astype(np.int64)
