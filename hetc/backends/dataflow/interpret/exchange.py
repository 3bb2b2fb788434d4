"""Collectives between the sockets, in the way that the plan chose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hetc.backends.dataflow.schema import Collective, Stage
from hetc.errors import PlanError
from hetc.ir.lockstep import Shards
from hetc.ir.ops.control import AllGather, AllReduce, TakePart
from hetc.ir.ops.elementwise_base import as_f32
from hetc.ir.types import Array


def exchange(
    op: AllReduce | AllGather | TakePart, x: Shards, stage: Stage, row_groups: int = 1
) -> Shards:
    """The result of a collective on every socket, for one of so many row groups; a part of what
    each socket has needs no link.

    Sockets fall into groups as `hetc.ir.lockstep` says. Raises PlanError (HETC-L311) where the plan
    sends something else.
    """
    holders, rest = divmod(len(x), op.group_size)
    if rest:
        raise _wrong(stage, f"groups of {op.group_size} sockets", f"{len(x)} sockets")
    if isinstance(op, TakePart):
        parts = [np.split(whole, op.group_size, axis=op.axis) for whole in x]
        return tuple(parts[rank][rank // holders] for rank in range(len(x)))
    sent = stage.collective
    made = x[0].nbytes * (op.group_size if isinstance(op, AllGather) else 1) * row_groups
    if sent is None or sent.bytes != made:
        raise _wrong(stage, f"{made} bytes are made", sent and f"{sent.bytes} bytes")
    groups = [x[first::holders] for first in range(holders)]
    if isinstance(op, AllGather):
        joined = [np.concatenate(group, axis=op.axis) for group in groups]
        return tuple(joined[rank % holders] for rank in range(len(x)))
    summed = [_all_reduce(group, sent) for group in groups]
    return tuple(summed[rank % holders] for rank in range(len(x)))


def _all_reduce(group: Sequence[Array], sent: Collective) -> Array:
    """The sum of a group, added in f32 in the order of the sockets.

    One shot: each socket adds all vectors. Two shots: of every chunk each socket adds one part, and
    the parts are gathered.
    """
    vectors = [as_f32(array).ravel() for array in group]
    if sent.algorithm == "one-shot":
        total = _sum(vectors)
    else:
        chunks = zip(
            *[np.array_split(vector, max(1, sent.chunks)) for vector in vectors], strict=True
        )
        total = np.concatenate([_two_shot(chunk) for chunk in chunks])
    return total.reshape(group[0].shape).astype(group[0].dtype)


def _two_shot(chunk: Sequence[Array]) -> Array:
    parts = zip(*[np.array_split(vector, len(chunk)) for vector in chunk], strict=True)
    return np.concatenate([_sum(part) for part in parts])


def _sum(vectors: Sequence[Array]) -> Array:
    total = vectors[0]
    for vector in vectors[1:]:
        total = total + vector
    return total


def _wrong(stage: Stage, expected: object, found: object) -> PlanError:
    return PlanError(
        "HETC-L311",
        "an exchange between sockets is not what the graph needs",
        at=f"{stage.id} ({stage.name})",
        expected=expected,
        found=found or "no collective",
        do="plan the graph again",
    )
