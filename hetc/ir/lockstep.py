"""The reference interpreter for a tensor-parallel group: one graph on n shards, op by op together.

Every shard runs the same graph on its own inputs and weights; a collective combines what the shards
hold at that op. A collective over fewer than n shards runs in n / group_size groups: the tensor has
`group_size` parts, shard r holds part r * group_size // n, and a group is one holder of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hetc.errors import IRError
from hetc.ir.graph import Graph
from hetc.ir.interpret import WeightLookup, bind_symbols, dead_after, evaluate_op
from hetc.ir.op import Op, Value
from hetc.ir.ops.control import COLLECTIVES, AllReduce, Call, TakePart
from hetc.ir.types import Array

Shards = tuple[Array, ...]
"""One tensor as each shard has it."""


def interpret_lockstep(
    graph: Graph,
    inputs: Sequence[Sequence[Array]],
    weights: Sequence[WeightLookup],
    bindings: Mapping[str, int] | None = None,
) -> tuple[tuple[Array, ...], ...]:
    """Run `graph` on as many shards as there are `weights` and return the outputs of each.

    `inputs[r]` and `weights[r]` are those of shard r. Sizes are bound as in `interpret`, from the
    inputs of each shard. Raises IRError as `interpret` does, and HETC-X024 for a collective that
    these shards cannot form groups for.
    """
    bound = [bind_symbols(graph.inputs, given, dict(bindings or {})) for given in inputs]
    columns = tuple(zip(*inputs, strict=True))
    return tuple(zip(*_run(graph, columns, weights, bound[0]), strict=True))


def _run(
    graph: Graph, inputs: Sequence[Shards], weights: Sequence[WeightLookup], bound: dict[str, int]
) -> tuple[Shards, ...]:
    arrays: dict[Value, Shards] = dict(zip(graph.inputs, inputs, strict=True))
    dead = dead_after(graph)
    for op in graph.ops:
        operands = [arrays[value] for value in op.operands]
        arrays.update(zip(op.results, _evaluate(op, operands, weights, bound), strict=True))
        for value in dead.get(op, ()):
            del arrays[value]
    return tuple(arrays[value] for value in graph.outputs)


def _evaluate(
    op: Op, operands: Sequence[Shards], weights: Sequence[WeightLookup], bound: dict[str, int]
) -> tuple[Shards, ...]:
    if isinstance(op, Call):
        return _run(op.callee, operands, weights, bound)
    if isinstance(op, COLLECTIVES):
        return (combine(op, operands[0]),)
    ranks = zip(*operands, strict=True) if operands else ((),) * len(weights)
    results = [
        evaluate_op(op, tuple(given), lookup, bound)
        for given, lookup in zip(ranks, weights, strict=True)
    ]
    return tuple(zip(*results, strict=True))


def combine(op: Op, x: Shards) -> Shards:
    """The result of a collective on every shard; IRError (HETC-X024) where groups do not fit."""
    assert isinstance(op, COLLECTIVES)
    count = len(x)
    if count % op.group_size:
        raise IRError(
            "HETC-X024",
            f"{count} shards do not fall into groups of {op.group_size}",
            at=op.loc or op.kind,
        )
    holders = count // op.group_size
    if isinstance(op, TakePart):
        parts = [np.split(whole, op.group_size, axis=op.axis) for whole in x]
        return tuple(parts[rank][rank // holders] for rank in range(count))
    groups = [x[first::holders] for first in range(holders)]
    if isinstance(op, AllReduce):
        combined = [_sum(group) for group in groups]
    else:
        combined = [np.concatenate(group, axis=op.axis) for group in groups]
    return tuple(combined[rank % holders] for rank in range(count))


def _sum(group: Shards) -> Array:
    """In f64, or the integers as they are: the order of a real reduction is not defined."""
    wide = np.float64 if group[0].dtype.kind not in "iub" else group[0].dtype
    total: Array = np.sum([array.astype(wide) for array in group], axis=0)
    return total.astype(group[0].dtype)
