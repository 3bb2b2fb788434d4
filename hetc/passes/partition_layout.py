"""From both halves of a program to the nodes, nets and stores of the assignment problem.

A node is what one device runs in one piece: an op with a kernel of its own and the ops that are
fused into it. That is no approximation of the cost model but its statement: a fused op has no bytes
and no launch of its own because it is where its producer is. Reshapes, transposes and broadcasts
move nothing, so their results are their operands under another name; what depends on weights and
positions alone is computed wherever it is read. Other views (slices, splits) are nodes without
cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hetc.ir.dims import DimLike, evaluate
from hetc.ir.graph import Program, Whole
from hetc.ir.op import Value
from hetc.ir.ops.shape import Broadcast, Flip, Reshape, Transpose
from hetc.ir.ops.source import Weight
from hetc.passes.cost import OpCost, PhaseCosts, Work
from hetc.passes.op_times import execution_us, op_times
from hetc.passes.partition_problem import Bools, Floats, Ints, Net, Problem, Setup, Store
from hetc.passes.workload import PHASES, AnyWorkload, Phase, Workload
from hetc.targets import Link, Target

# The two devices of a cut by the role for which the user named them.
ROLES: tuple[Phase, Phase] = PHASES
OpKey = tuple[Phase, int]
_SAME_BYTES = (Reshape, Transpose, Broadcast, Flip)


@dataclass(frozen=True)
class Crossing:
    """What a net stands for: an activation, a `handoff` of state, or state `carried` by decode.

    `name` is the state, or the op that makes the activation. `nbytes` are those of one transfer.
    """

    kind: str
    name: str
    phase: Phase
    nbytes: DimLike


@dataclass(frozen=True)
class Kept:
    """What a store stands for: a weight, or a state of which `rows` says how many rows count."""

    kind: str
    name: str
    nbytes: DimLike
    rows: str = ""


@dataclass(frozen=True, eq=False)
class Layout:
    """The structure of a program's problem, good for every workload, link and target.

    `home[phase, index]` is the node of an op; `work` lists (node, phase, work) for every op in it.
    `allowed[n]` are the roles on which node n may be.
    """

    costs: Mapping[Phase, PhaseCosts]
    home: Mapping[OpKey, int]
    members: tuple[tuple[OpCost, ...], ...]
    allowed: tuple[frozenset[Phase], ...]
    nets: tuple[Net, ...]
    crossings: tuple[Crossing, ...]
    stores: tuple[Store, ...]
    kept: tuple[Kept, ...]

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases of what is cut, in the order in which they run."""
        return tuple(self.costs)

    @cached_property
    def _works(self) -> tuple[tuple[tuple[Phase, Work], ...], Ints, Ints]:
        """Every different work once, and which node does which of them, in pairs."""
        number: dict[tuple[Phase, Work], int] = {}
        node, which = [], []
        for phase in self.phases:
            for cost in self.costs[phase]:
                which.append(number.setdefault((phase, cost.work), len(number)))
                node.append(self.home[phase, cost.index])
        return tuple(number), np.array(node, dtype=np.int64), np.array(which, dtype=np.int64)

    @cached_property
    def _allowed(self) -> Bools:
        may = [[role in allowed for role in ROLES] for allowed in self.allowed]
        return np.array(may, dtype=bool).reshape(-1, len(ROLES))

    @cached_property
    def _phase_nodes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(
            tuple(np.flatnonzero(self.phase_of == place).tolist())
            for place in range(len(self.phases))
        )

    def node_seconds(self, workload: AnyWorkload, targets: Sequence[Target]) -> Floats:
        """Seconds of every node on every target over the workload: [N, D]."""
        works, node, which = self._works
        table = np.zeros((len(works), len(targets)))
        for row, (phase, work) in enumerate(works):
            amounts = work.at(workload.bindings(phase))
            times = [op_times(work, amounts, target).seconds for target in targets]
            table[row] = np.array(times) * workload.executions(phase)
        seconds = np.zeros((len(self.members), len(targets)))
        np.add.at(seconds, node, table[which])
        return seconds

    @cached_property
    def phase_of(self) -> Ints:
        """The phase of every node, as its place in `phases`."""
        places = [self.phases.index(group[0].phase) for group in self.members]
        return np.array(places, dtype=np.int64)

    def price(self, workload: AnyWorkload, targets: Sequence[Target], link: Link) -> Problem:
        """The problem of a workload: times of every node, sizes of every net and store.

        `targets` are those of the two roles. Where they are more, every node may be on every one,
        and `link` joins every two.
        """
        nbytes, transfers = [], []
        sizes: dict[tuple[DimLike, Phase], float] = {}
        handoffs = sum(crossing.kind == "handoff" for crossing in self.crossings)
        for crossing in self.crossings:
            key = (crossing.nbytes, crossing.phase)
            if key not in sizes:
                sizes[key] = float(evaluate(crossing.nbytes, workload.bindings(crossing.phase)))
            runs = workload.executions(crossing.phase)
            nbytes.append(sizes[key] * runs)
            # States are handed over back to back: together they wait for the link once.
            transfers.append(1 / handoffs if crossing.kind == "handoff" else float(runs))
        off_diagonal = 1.0 - np.eye(len(targets))
        return Problem(
            seconds=self.node_seconds(workload, targets),
            allowed=self._allowed
            if len(targets) == len(ROLES)
            else np.ones((len(self.members), len(targets)), dtype=bool),
            nets=self.nets,
            nbytes=np.array(nbytes),
            transfers=np.array(transfers),
            latency=off_diagonal * link.latency_us.value * 1e-6,
            seconds_per_byte=off_diagonal / link.sustained_bandwidth,
            setups=tuple(Setup(users) for users in self._phase_nodes),
            setup_seconds=np.array([_setup_seconds(p, workload, targets) for p in self.phases]),
            stores=self.stores,
            store_bytes=np.array([_kept_bytes(kept, workload) for kept in self.kept]),
            capacity=np.array([float(target.room_bytes) for target in targets]),
        )


def _setup_seconds(phase: Phase, workload: AnyWorkload, targets: Sequence[Target]) -> list[float]:
    """What each target takes to start an execution of the phase, over the workload."""
    return [execution_us(target) * 1e-6 * workload.executions(phase) for target in targets]


def _kept_bytes(kept: Kept, workload: AnyWorkload) -> float:
    if kept.kind == "weight":
        return float(evaluate(kept.nbytes, {}))
    assert isinstance(workload, Workload), "only phases leave state to each other"
    prompt = evaluate(kept.nbytes, {"B": workload.batch, "P": workload.prompt_tokens})
    if kept.rows == "prompt":
        return float(prompt)
    return float(evaluate(kept.nbytes, {"B": workload.batch, "P": workload.rows}) - prompt)


Allow = Callable[[OpCost], frozenset[Phase]]


def lay_out(program: Program | Whole, costs: Mapping[Phase, PhaseCosts], allow: Allow) -> Layout:
    """The structure of the problem of `program`; `allow` says on which roles an op may be."""
    made = _Builder(allow)
    for phase in costs:
        made.add_phase(costs[phase])
    if isinstance(program, Program):
        made.add_states(program, costs)
    return made.finish(costs)


@dataclass
class _Builder:
    allow: Allow
    members: list[list[OpCost]] = field(default_factory=list)
    allowed: list[frozenset[Phase]] = field(default_factory=list)
    home: dict[OpKey, int] = field(default_factory=dict)
    nets: list[Net] = field(default_factory=list)
    crossings: list[Crossing] = field(default_factory=list)
    # (phase, value) -> the node that makes it and the nodes that read it, of values that are moved.
    maker: dict[tuple[Phase, Value], int] = field(default_factory=dict)
    readers: dict[tuple[Phase, Value], dict[int, None]] = field(default_factory=dict)
    same: dict[tuple[Phase, Value], Value] = field(default_factory=dict)
    weights: dict[str, dict[int, None]] = field(default_factory=dict)
    weight_bytes: dict[str, DimLike] = field(default_factory=dict)
    stores: list[Store] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)

    def root(self, phase: Phase, value: Value) -> Value:
        """The value whose bytes `value` shows."""
        return self.same.get((phase, value), value)

    def add_phase(self, costs: PhaseCosts) -> None:
        phase = costs.phase
        for op in costs.graph.ops:
            if isinstance(op, Weight):
                self.weight_bytes[op.name] = op.results[0].nbytes
        first_node = len(self.members)
        for cost in costs:
            origin = costs.origin[cost.op.results[0]]
            if origin.place in ("weight", "index"):
                continue
            roots = [self.root(phase, value) for value in cost.op.operands]
            if isinstance(cost.op, _SAME_BYTES):
                self.same[phase, cost.op.results[0]] = roots[0]
                if (phase, roots[0]) in self.maker:
                    self._place(cost, self.maker[phase, roots[0]])
                continue
            node = self._host(cost, roots)
            self._place(cost, node)
            for value in cost.op.results:
                self.maker[phase, value] = node
            for value in roots:
                if costs.origin[value].place not in ("weight", "index"):
                    self.readers.setdefault((phase, value), {})[node] = None
            for name in sorted(cost.weights):
                self.weights.setdefault(name, {})[node] = None
        self._house(costs, first_node)
        names = {cost.op: cost.name for cost in costs}
        for (made_in, value), node in list(self.maker.items()):
            consumers = self.readers.get((made_in, value), {})
            others = tuple(reader for reader in consumers if reader != node)
            if made_in == phase and others:
                assert value.op is not None, "nodes make the results of ops"
                name = names[value.op]
                self._net(node, others, Crossing("activation", name, phase, value.nbytes))

    def _host(self, cost: OpCost, roots: Iterable[Value]) -> int:
        """The node of an op: its latest producer's if it is fused, else its own."""
        makers = [self.maker.get((cost.phase, value), -1) for value in roots]
        latest = max(makers, default=-1)
        roles = self.allow(cost)
        # Every other operand comes from an earlier node, so that no cycle of nodes can form.
        if cost.work.fused and latest >= 0 and self.allowed[latest] == roles:
            return latest
        self.members.append([])
        self.allowed.append(roles)
        return len(self.members) - 1

    def _place(self, cost: OpCost, node: int) -> None:
        self.members[node].append(cost)
        self.home[cost.phase, cost.index] = node

    def _house(self, costs: PhaseCosts, first_node: int) -> None:
        """Ops that run wherever they are read are counted where they are read first."""
        first: dict[Value, int] = {}
        for cost in reversed(costs.ops):
            node = self.home.get((cost.phase, cost.index))
            if node is None:
                node = min((first[v] for v in cost.op.results if v in first), default=first_node)
                if node == len(self.members):
                    # A phase that computes nothing: its views are one piece.
                    self.members.append([])
                    self.allowed.append(self.allow(cost))
                self._place(cost, node)
            for value in cost.op.operands:
                first[value] = min(first.get(value, node), node)

    def _net(self, producer: int, consumers: tuple[int, ...], crossing: Crossing) -> None:
        self.nets.append(Net(producer, consumers))
        self.crossings.append(crossing)

    def add_states(self, program: Program, costs: Mapping[Phase, PhaseCosts]) -> None:
        """Hand-off, carrying and memory of every state."""
        inputs = {value.name: value for value in costs["decode"].graph.inputs}
        for spec in program.states:
            readers = tuple(self.readers.get(("decode", inputs[spec.name]), {}))
            makers = {phase: self._state_out(costs[phase], spec.name) for phase in PHASES}
            before, after = makers["prefill"], makers["decode"]
            # Rows at the prompt's length are written S in prefill and P in decode.
            if before is not None and readers:
                nbytes = self._out(costs["prefill"], spec.name).nbytes
                self._net(before, readers, Crossing("handoff", spec.name, "prefill", nbytes))
            others = tuple(reader for reader in readers if reader != after)
            if after is not None and others:
                nbytes = self._out(costs["decode"], spec.name).nbytes
                self._net(after, others, Crossing("carried", spec.name, "decode", nbytes))
            holders = dict.fromkeys([*readers, *([] if after is None else [after])])
            early = dict.fromkeys([*holders, *([] if before is None else [before])])
            if holders:
                self._keep(early, Kept("state", spec.name, spec.type.nbytes, "prompt"))
                self._keep(holders, Kept("state", spec.name, spec.type.nbytes, "growth"))

    def _out(self, costs: PhaseCosts, state: str) -> Value:
        place = costs.graph.output_names.index(f"{state}.out")
        return costs.graph.outputs[place]

    def _state_out(self, costs: PhaseCosts, state: str) -> int | None:
        value = self._out(costs, state)
        return self.maker.get((costs.phase, self.root(costs.phase, value)))

    def _keep(self, users: Iterable[int], kept: Kept) -> None:
        self.stores.append(Store(tuple(users)))
        self.kept.append(kept)

    def finish(self, costs: Mapping[Phase, PhaseCosts]) -> Layout:
        for name, users in self.weights.items():
            self._keep(users, Kept("weight", name, self.weight_bytes[name]))
        return Layout(
            costs,
            self.home,
            tuple(tuple(sorted(group, key=lambda cost: cost.index)) for group in self.members),
            tuple(self.allowed),
            tuple(self.nets),
            tuple(self.crossings),
            tuple(self.stores),
            tuple(self.kept),
        )
