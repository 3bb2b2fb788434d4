"""Assignments to more than two devices: a mixed integer program, solved by HiGHS through SciPy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hetc.passes.partition_capacity import Solution
from hetc.passes.partition_problem import Problem, Setup, Store


@dataclass
class _Rows:
    """Sparse constraint rows: sum of coefficients times variables, at least `low`, at most
    `high`."""

    row: list[int] = field(default_factory=list)
    column: list[int] = field(default_factory=list)
    factor: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def add(self, terms: list[tuple[int, float]], low: float, high: float) -> None:
        for column, factor in terms:
            self.row.append(len(self.low))
            self.column.append(column)
            self.factor.append(factor)
        self.low.append(low)
        self.high.append(high)


def partition_many(problem: Problem, time_limit_s: float = 60.0) -> Solution:
    """The best assignment to any number of devices, memory included, with the solver's bound.

    Variables: x[n, d] node n is on device d; y[m, a, b] net m goes from a to b; z[s, d] store s is
    on device d; w[s, d] setup s is. A net goes to b where a consumer is, the sum over a of
    y[m, a, b] >= x[consumer, b] - x[producer, b], from where its producer is, y[m, a, b] <=
    x[producer, a]. Deterministic unless the time runs out; then the gap says how good the answer
    is. `assignment` is None where none fits.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    nodes, devices = problem.seconds.shape
    pairs = [(a, b) for a in range(devices) for b in range(devices) if a != b]
    nets, stores = len(problem.nets), len(problem.stores) if len(problem.capacity) else 0
    first_y = nodes * devices
    first_z = first_y + nets * len(pairs)
    first_w = first_z + stores * devices
    count = first_w + len(problem.setups) * devices

    scale = float(np.where(problem.allowed, problem.seconds, 0.0).max(initial=0.0)) or 1.0
    objective = np.zeros(count)
    objective[:first_y] = problem.seconds.reshape(-1) / scale
    every = np.arange(nets)
    for place, (a, b) in enumerate(pairs):
        costs = problem.crossing_seconds(every, np.full(nets, a), np.full(nets, b))
        objective[first_y + place : first_z : len(pairs)] = costs / scale
    objective[first_w:] = problem.setup_seconds.reshape(-1)[: count - first_w] / scale

    rows = _Rows()
    for node in range(nodes):
        rows.add([(node * devices + d, 1.0) for d in range(devices)], 1, 1)
    for number, net in enumerate(problem.nets):
        base = first_y + number * len(pairs)
        for place, (a, _) in enumerate(pairs):
            rows.add([(base + place, 1.0), (net.producer * devices + a, -1.0)], -np.inf, 0)
        for b in range(devices):
            arriving = [(base + place, 1.0) for place, pair in enumerate(pairs) if pair[1] == b]
            for consumer in net.consumers:
                either = [(net.producer * devices + b, 1.0), (consumer * devices + b, -1.0)]
                rows.add([*arriving, *either], 0, np.inf)
    shared: list[Store | Setup] = [*problem.stores[:stores], *problem.setups]
    for number, item in enumerate(shared):
        for d in range(devices):
            there = first_z + number * devices + d
            for user in item.users:
                rows.add([(there, 1.0), (user * devices + d, -1.0)], 0, np.inf)
    for d in range(devices if stores else 0):
        # In units of the memory, so that the numbers stay near one.
        room = float(problem.capacity[d])
        terms = [
            (first_z + s * devices + d, float(problem.store_bytes[s]) / room) for s in range(stores)
        ]
        rows.add(terms, -np.inf, 1.0)

    matrix = csr_array((rows.factor, (rows.row, rows.column)), shape=(len(rows.low), count))
    upper = np.ones(count)
    upper[:first_y] = problem.allowed.reshape(-1)
    # With x whole, y and z are whole in the best solution by themselves.
    whole = np.zeros(count)
    whole[:first_y] = 1
    found = milp(
        objective,
        constraints=LinearConstraint(matrix, np.array(rows.low), np.array(rows.high)),
        integrality=whole,
        bounds=Bounds(np.zeros(count), upper),
        options={"time_limit": time_limit_s, "mip_rel_gap": 0.0},
    )
    bound = float(found.mip_dual_bound or 0.0) * scale
    if found.x is None:
        return Solution(None, float("inf"), bound, "milp")
    assignment = np.argmax(found.x[:first_y].reshape(nodes, devices), axis=1).astype(np.int64)
    seconds = problem.total(assignment)
    return Solution(assignment, seconds, min(bound, seconds), "milp")
