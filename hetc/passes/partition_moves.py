"""What moving one node to the other device would change, for every node of a two-device cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hetc.passes.partition_problem import Bools, Ints, Problem


@dataclass(frozen=True)
class Move:
    """The change in seconds over the workload if one node alone were on the other device.

    `work` is its own time and setups, `latency` and `wire` are transfers: fixed costs, and bytes on
    the link. `allowed` says whether it may be there, `fits` whether that device could hold it.
    """

    work: float
    latency: float
    wire: float
    allowed: bool
    fits: bool

    @property
    def delta(self) -> float:
        return self.work + self.latency + self.wire


def moves(problem: Problem, nodes: Ints) -> list[Move]:
    """A move for every node; takes time linear in the sizes of nets and stores."""
    count = len(nodes)
    rows = np.arange(count)
    work = problem.seconds[rows, 1 - nodes] - problem.seconds[rows, nodes]
    latency, wire = np.zeros(count), np.zeros(count)
    for number, net in enumerate(problem.nets):
        readers = [reader for reader in net.consumers if reader != net.producer]
        members = [net.producer, *readers]
        there = [int(nodes[reader]) for reader in readers]
        on = [there.count(0), there.count(1)]
        home = int(nodes[net.producer])
        now = on[1 - home] > 0
        for place, member in enumerate(members):
            if place == 0:
                then, source = on[home] > 0, 1 - home
            else:
                away = on[1 - home] + (1 if there[place - 1] == home else -1)
                then, source = away > 0, home
            for crosses, start, sign in ((now, home, -1.0), (then, source, 1.0)):
                if crosses:
                    fixed = problem.transfers[number] * problem.latency[start, 1 - start]
                    latency[member] += sign * fixed
                    per_byte = problem.seconds_per_byte[start, 1 - start]
                    wire[member] += sign * problem.nbytes[number] * per_byte
    for setup, seconds in zip(problem.setups, problem.setup_seconds, strict=True):
        where = nodes[list(setup.users)]
        on = [int((where == 0).sum()), int((where == 1).sum())]
        for user, device in zip(setup.users, where.tolist(), strict=True):
            work[user] += seconds[1 - device] * (on[1 - device] == 0)
            work[user] -= seconds[device] * (on[device] == 1)
    fits = _fits(problem, nodes)
    return [
        Move(
            float(work[n]),
            float(latency[n]),
            float(wire[n]),
            bool(problem.allowed[n, 1 - nodes[n]]),
            bool(fits[n]),
        )
        for n in range(count)
    ]


def _fits(problem: Problem, nodes: Ints) -> Bools:
    """Whether the other device could hold what each node uses, beside what it holds already."""
    more = np.zeros(len(nodes))
    for store, nbytes in zip(problem.stores, problem.store_bytes.tolist(), strict=True):
        used = {int(nodes[user]) for user in store.users}
        for user in store.users:
            if 1 - int(nodes[user]) not in used:
                more[user] += nbytes
    held = problem.held(nodes)
    room = problem.capacity - held if len(problem.capacity) else np.full(2, np.inf)
    enough: Bools = more <= room[1 - nodes]
    return enough
