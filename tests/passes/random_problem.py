"""Random assignment problems for property tests, and their best solutions by trying everything."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import strategies as st

from hetc.passes.partition_problem import Ints, Net, Problem, Setup, Store


@st.composite
def problems(
    draw: st.DrawFn, most: int = 8, devices: int = 2, with_memory: bool = False
) -> Problem:
    """Two phases of a random DAG with state between them, pins, setups, maybe small memories."""
    count = draw(st.integers(2, most))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    border = int(rng.integers(1, count))
    nets = []
    for low, high in ((0, border), (border, count)):
        for producer in range(low, high - 1):
            later = np.arange(producer + 1, high)
            readers = rng.choice(later, int(rng.integers(0, min(4, len(later) + 1))), replace=False)
            if len(readers):
                nets.append(Net(producer, tuple(readers.tolist())))
    # Hand-off of state, and state that a later op of decode leaves to an earlier one.
    nets.append(Net(int(rng.integers(0, border)), (int(rng.integers(border, count)),)))
    nets.append(Net(count - 1, tuple(range(border, min(border + 2, count)))))
    allowed = np.ones((count, devices), dtype=bool)
    for node in range(count):
        if rng.random() < 0.25:
            allowed[node] = False
            allowed[node, int(rng.integers(devices))] = True
    stores = tuple(
        Store(tuple(np.flatnonzero(rng.random(count) < 0.4).tolist()) or (0,)) for _ in range(3)
    )
    store_bytes = rng.random(3) * 10
    room = rng.uniform(0.3, 1.0, devices) * store_bytes.sum()
    off_diagonal = 1 - np.eye(devices)
    return Problem(
        seconds=rng.random((count, devices)) * rng.choice([1e-3, 1.0, 10.0], (count, 1)),
        allowed=allowed,
        nets=tuple(nets),
        nbytes=rng.random(len(nets)) * rng.choice([0.0, 1.0, 5.0], len(nets)),
        transfers=rng.integers(1, 4, len(nets)).astype(float),
        latency=rng.random((devices, devices)) * 0.1 * off_diagonal,
        seconds_per_byte=rng.random((devices, devices)) * off_diagonal,
        setups=(Setup(tuple(range(border))), Setup(tuple(range(border, count)))),
        setup_seconds=rng.random((2, devices)),
        stores=stores if with_memory else (),
        store_bytes=store_bytes if with_memory else np.zeros(0),
        capacity=room if with_memory else np.zeros(0),
    )


def best(problem: Problem) -> tuple[Ints | None, float]:
    """The cheapest assignment that fits, by trying all."""
    found: Ints | None = None
    least = float("inf")
    for choice in itertools.product(range(problem.devices), repeat=len(problem.seconds)):
        assignment = np.array(choice, dtype=np.int64)
        seconds = problem.total(assignment)
        if seconds < least and problem.fits(assignment):
            found, least = assignment, seconds
    return found, least
