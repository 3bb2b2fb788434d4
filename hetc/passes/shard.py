"""Shard: the graph that one socket of a tensor-parallel group runs, with collectives in it.

Every socket runs the same graph on its own parts of weights and states (Shoeybi et al. 2019,
"Megatron-LM", section 3): products split their outputs, those that read what is split sum over
sockets, attention is split by heads. Where nothing better is known, a socket computes on whole
tensors, as all do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from hetc.errors import Reason
from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.ir.ops.control import Call
from hetc.ir.ops.index import Embedding
from hetc.ir.ops.source import Weight
from hetc.ir.types import Array
from hetc.passes.shard_classes import Holder, holder
from hetc.passes.shard_forms import LocalWeights
from hetc.passes.shard_plan import Cut, Plan, PlanOptions, plan_cuts
from hetc.passes.shard_rewrite import LocalGraph, rewrite


@dataclass(frozen=True)
class Shard:
    """Which part of a tensor of the model a socket holds.

    `source` is the name of the weight or state. The axis (None: the tensor is replicated) falls
    into `groups` equal groups, each cut in `parts` equal parts. Socket r of n holds part
    r * parts // n of every group: with fewer parts than sockets, several sockets hold the same.
    """

    source: str
    axis: int | None = None
    parts: int = 1
    groups: int = 1

    def of(self, array: Array, rank: int, sockets: int) -> Array:
        """What socket `rank` of `sockets` holds of the whole tensor."""
        if self.axis is None:
            return array
        part = rank * self.parts // sockets
        pieces = np.split(array, self.groups * self.parts, axis=self.axis)[part :: self.parts]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=self.axis)


@dataclass(frozen=True)
class ShardDecision:
    """Why something is as it is: `action` is `split`, `replicate`, or the kind of a collective.

    `name` is that of a weight or state as `graph` names it, or the place of a collective; a graph
    that is called once a layer stands for all of these layers.
    """

    graph: str
    name: str
    action: str
    parts: int
    reason: Reason


@dataclass(frozen=True)
class Sharded:
    """The graph of one socket, and what it holds of weights and states.

    `weights` is by the name in `graph`: a weight of which a socket needs two different parts has
    two names there. `states` is by the name of the input.
    """

    graph: Graph
    sockets: int
    weights: Mapping[str, Shard]
    states: Mapping[str, Shard]
    decisions: tuple[ShardDecision, ...]

    @property
    def local_bytes(self) -> int:
        """Bytes of weights that one socket holds."""
        return sum(self._weight_bytes().values())

    @property
    def unique_bytes(self) -> float:
        """Bytes of weights that each socket would hold if none were replicated."""
        whole: dict[str, int] = {}
        for name, nbytes in self._weight_bytes().items():
            shard = self.weights[name]
            whole[shard.source] = nbytes * shard.parts
        return sum(whole.values()) / self.sockets

    def _weight_bytes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for graph in (*self.graph.subgraphs(), self.graph):
            for op in graph.ops:
                if isinstance(op, Weight) and isinstance(op.type.nbytes, int):
                    found[op.name] = op.type.nbytes
        return found


def shard(graph: Graph, sockets: int, *, replicate_below_bytes: int = 0) -> Sharded:
    """Split `graph` over a tensor-parallel group of `sockets`.

    A called graph is split once, whoever calls it. A state is an input with an output of its name
    and `.out`. A weight of less than `replicate_below_bytes` is replicated where splitting it would
    only mean to gather what it gives; but a weight that gives an output of `graph`, as lm_head
    does, is always split.
    """
    options = PlanOptions(sockets, replicate_below_bytes)
    graphs = (*graph.subgraphs(), graph)
    states = _states(graph)
    stored = _stored(graphs, states)
    weights = LocalWeights()
    local: dict[int, LocalGraph] = {}
    decisions: list[ShardDecision] = []
    for each in graphs:
        given = _given(each, stored[id(each)], local)
        outer = each is graph
        whole = [v for v in each.outputs if v not in states] if outer else []
        plan = plan_cuts(each, options, given, whole)
        inputs = [plan.cuts.get(v) if v in stored[id(each)] else None for v in each.inputs]
        outputs: dict[Value, Cut | None] = dict.fromkeys(whole)
        if outer:
            outputs |= {out: plan.cuts.get(state) for out, state in states.items()}
        made = rewrite(each, plan, local, weights, inputs, outputs)
        local[id(each)] = made
        decisions += _decisions(each, made, plan, stored[id(each)])
    return Sharded(
        local[id(graph)].graph,
        sockets,
        {name: _shard(op.name, cut) for name, (op, cut) in weights.parts.items()},
        _state_shards(graph, states, local[id(graph)]),
        tuple(decisions),
    )


def _shard(source: str, cut: Cut | None) -> Shard:
    return Shard(source, cut.axis, cut.parts, cut.groups) if cut else Shard(source)


def _state_shards(
    graph: Graph, states: Mapping[Value, Value], local: LocalGraph
) -> dict[str, Shard]:
    kept = set(states.values())
    pairs = zip(graph.inputs, local.inputs, strict=True)
    return {value.name: _shard(value.name, cut) for value, cut in pairs if value in kept}


def _states(graph: Graph) -> dict[Value, Value]:
    """Output -> the input that it will be at the next step."""
    inputs = {value.name: value for value in graph.inputs}
    named = zip(graph.output_names, graph.outputs, strict=False)
    pairs = ((value, inputs.get(name.removesuffix(".out"))) for name, value in named)
    return {value: state for value, state in pairs if state is not None}


def _stored(graphs: tuple[Graph, ...], states: Mapping[Value, Value]) -> dict[int, set[Value]]:
    """Graph -> its inputs that sockets may hold parts of: those that are weights or states in every
    call."""
    stored = {id(graph): set(graph.inputs) for graph in graphs}
    stored[id(graphs[-1])] &= set(states.values())
    for graph in reversed(graphs):  # callers first
        known = stored[id(graph)]
        for op in graph.ops:
            if isinstance(op, Call):
                for param, arg in zip(op.callee.inputs, op.args, strict=True):
                    if arg not in known and not isinstance(arg.op, Weight):
                        stored[id(op.callee)].discard(param)
    return stored


def _given(
    graph: Graph, stored: Collection[Value], local: Mapping[int, LocalGraph]
) -> dict[Value, Cut]:
    """The cuts of states and results as the calls of `graph` need and leave them."""
    given: dict[Value, Cut] = {}
    for op in graph.ops:
        if isinstance(op, Call):
            callee = local[id(op.callee)]
            for arg, cut in zip(op.args, callee.inputs, strict=True):
                if cut is not None and arg in stored:
                    given.setdefault(arg, cut)
            left = zip(op.results, callee.outputs, strict=True)
            given |= {result: cut for result, cut in left if cut is not None}
    return given


def _decisions(
    graph: Graph, made: LocalGraph, plan: Plan, stored: Collection[Value]
) -> list[ShardDecision]:
    held: dict[Holder, tuple[str, Op | None]] = {}
    for op in graph.ops:
        if isinstance(op, Call):
            continue  # the called graph has its own
        for value in op.operands:
            if isinstance(value.op, Weight):
                held.setdefault(holder(op, value), (value.op.name, op))
            elif value in stored:
                held.setdefault(value, (value.name, op))
    found = []
    for item, (name, reader) in held.items():
        cut = plan.cuts.get(item)
        reason = plan.reasons.get(item) or _needed_whole(reader)
        action, parts = ("split", cut.parts) if cut else ("replicate", 1)
        found.append(ShardDecision(graph.name, name, action, parts, reason))
    for op, reason in made.collectives:
        found.append(ShardDecision(graph.name, op.loc, op.kind, op.group_size, reason))
    return found


def _needed_whole(reader: Op | None) -> Reason:
    if isinstance(reader, Embedding):
        return Reason("HETC-P207", "one row a token is read")
    return Reason("HETC-P208", "every socket needs all of it")
