"""The exact cheapest assignment to two devices: a minimum s-t cut (Stone 1977, IEEE TSE 3(1)).

Device 0 is the source's side. A node on device 0 cuts its arc to the sink, whose capacity is its
time there; on device 1 it cuts the arc from the source. A tensor read by several nodes is paid
once, through a gadget node for each direction: producer -> gadget with the cost, gadget -> every
consumer without bound. What is held in memory is a gadget of the same kind, with the price of its
bytes.

The flow is computed whole, without collapsing layers: SciPy's Dinic takes milliseconds on a network
that takes networkx seconds. It works on 32-bit capacities; `_saturate` reaches exact 50-bit ones by
scaling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hetc.passes.partition_problem import Floats, Ints, Problem, Setup, Store

SOURCE, SINK = 0, 1
# Seconds become integers so that all finite capacities together stay below 2**_BITS.
_BITS = 50
# A round's flow stays below 2**_FLOW_BITS and an arc at most _CLIP: a residual, which is capacity
# plus
# the flow against it, then fits 32 bits.
_FLOW_BITS = 29
_CLIP = 2**30 - 1


@dataclass(frozen=True, eq=False)
class CutNetwork:
    """The arcs of a problem. Their capacities are set anew for every solution, the structure is
    not.

    `tail` and `head` are sorted and hold the reverse of every arc; `arc[kind]` are the places of
    the arcs of one kind, in the order of the nodes, nets or stores that they belong to.
    """

    nodes: int
    vertices: int
    tail: Ints
    head: Ints
    arc: dict[str, Ints]
    # Which net a gadget's paid arc belongs to.
    net: Ints

    def solve(self, problem: Problem, price: Sequence[float] = (0.0, 0.0)) -> tuple[Ints, float]:
        """The best assignment and its seconds, with `price[d]` seconds for every byte held on d.

        Of equally good assignments, the one with most on device 0. Capacities are rounded to 1e-15
        of their sum.
        """
        finite = self._capacities(problem, price)
        total = sum(float(part.sum()) for part in finite.values())
        scale = 2.0**_BITS / total if total > 0 else 1.0
        whole = np.zeros(len(self.tail), dtype=np.int64)
        for kind, part in finite.items():
            np.add.at(whole, self.arc[kind], np.rint(part * scale).astype(np.int64))
        unbounded = np.int64(2) ** (_BITS + 1)
        whole[self.arc["tie"]] = unbounded
        for kind, other in (("from_source", 1), ("to_sink", 0)):
            whole[self.arc[kind][~problem.allowed[:, other]]] = unbounded
        residual = self._saturate(whole)
        assignment = self._far_side(residual)
        value = problem.total(assignment)
        if any(price):
            value += float(np.dot(price, problem.held(assignment)))
        return assignment, value

    def _capacities(self, problem: Problem, price: Sequence[float]) -> dict[str, Floats]:
        every = np.arange(len(problem.nets))
        cost = {
            direction: problem.crossing_seconds(
                every, np.full_like(every, a), np.full_like(every, b)
            )
            for direction, a, b in (("out", 0, 1), ("back", 1, 0))
        }
        finite = {
            "from_source": np.where(problem.allowed[:, 0], problem.seconds[:, 1], 0.0),
            "to_sink": np.where(problem.allowed[:, 1], problem.seconds[:, 0], 0.0),
            "out": cost["out"][self.net],
            "back": cost["back"][self.net],
        }
        for device in (0, 1) if problem.setups else ():
            finite[f"setup{device}"] = problem.setup_seconds[:, device]
        if len(self.arc["held0"]):
            finite["held0"] = problem.store_bytes * price[0]
            finite["held1"] = problem.store_bytes * price[1]
        return finite

    def _saturate(self, capacity: Ints) -> Ints:
        """The residual capacities of a maximum flow."""
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import maximum_flow

        starts = np.searchsorted(self.tail, np.arange(self.vertices + 1)).astype(np.int32)
        indices = self.head.astype(np.int32)
        shape = (self.vertices, self.vertices)
        residual = capacity.copy()
        unit = 1 << (_BITS - _FLOW_BITS)
        while True:
            # A round leaves less than one unit for each arc of a cut, so that the next round's flow
            # is small again and clipping cannot bound it.
            units = np.minimum(residual // unit, _CLIP).astype(np.int32)
            network = csr_array((units, indices, starts), shape=shape)
            flow: Any = maximum_flow(network, SOURCE, SINK, method="dinic").flow
            pushed: Ints = flow.data.astype(np.int64)
            residual = residual - pushed * unit
            if unit == 1:
                return residual
            unit = max(1, unit * len(self.tail) >> _FLOW_BITS)

    def _far_side(self, residual: Ints) -> Ints:
        """Device of every node: 1 for those from which the sink can still be reached."""
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import breadth_first_order

        left = residual > 0
        backwards = csr_array(
            (np.ones(int(left.sum()), dtype=np.int8), (self.head[left], self.tail[left])),
            shape=(self.vertices, self.vertices),
        )
        reached: Any = breadth_first_order(
            backwards, SINK, directed=True, return_predecessors=False
        )
        assignment = np.zeros(self.vertices, dtype=np.int64)
        assignment[reached] = 1
        return assignment[2 : 2 + self.nodes]


def cut_network(problem: Problem, *, with_stores: bool = False) -> CutNetwork:
    """The network of a two-device problem; `with_stores` adds what prices on bytes need."""
    assert problem.devices == 2, "more devices are a problem for partition_many"
    arcs: dict[str, list[tuple[int, int]]] = {
        kind: []
        for kind in (
            "from_source",
            "to_sink",
            "out",
            "back",
            "tie",
            "setup0",
            "setup1",
            "held0",
            "held1",
        )
    }
    nodes = len(problem.seconds)
    vertices = nodes + 2
    for node in range(2, nodes + 2):
        arcs["from_source"].append((SOURCE, node))
        arcs["to_sink"].append((node, SINK))
    paid: list[int] = []
    for number, net in enumerate(problem.nets):
        producer = net.producer + 2
        consumers = [consumer + 2 for consumer in net.consumers if consumer + 2 != producer]
        if not consumers:
            continue
        paid.append(number)
        if len(consumers) == 1:
            arcs["out"].append((producer, consumers[0]))
            arcs["back"].append((consumers[0], producer))
            continue
        arcs["out"].append((producer, vertices))
        arcs["tie"] += [(vertices, consumer) for consumer in consumers]
        arcs["back"].append((vertices + 1, producer))
        arcs["tie"] += [(consumer, vertices + 1) for consumer in consumers]
        vertices += 2
    shared: list[tuple[str, Setup | Store]] = [("setup", setup) for setup in problem.setups]
    shared += [("held", store) for store in problem.stores if with_stores]
    for kind, item in shared:
        arcs[f"{kind}0"].append((vertices, SINK))
        arcs["tie"] += [(user + 2, vertices) for user in item.users]
        arcs[f"{kind}1"].append((SOURCE, vertices + 1))
        arcs["tie"] += [(vertices + 1, user + 2) for user in item.users]
        vertices += 2
    return _index(arcs, nodes, vertices, np.array(paid, dtype=np.int64))


def _index(
    arcs: dict[str, list[tuple[int, int]]], nodes: int, vertices: int, net: Ints
) -> CutNetwork:
    keys = {
        kind: np.array([a * vertices + b for a, b in pairs], dtype=np.int64)
        for kind, pairs in arcs.items()
    }
    forward = np.concatenate(list(keys.values()))
    backward = forward % vertices * vertices + forward // vertices
    known: Ints = np.unique(np.concatenate([forward, backward]))
    tail, head = known // vertices, known % vertices
    arc = {kind: np.searchsorted(known, part) for kind, part in keys.items()}
    return CutNetwork(nodes, vertices, tail, head, arc, net)
