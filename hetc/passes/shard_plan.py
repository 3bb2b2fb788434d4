"""Choose which classes of axes are cut, and in how many parts.

A class is worth cutting where it holds the outputs of a product: then every socket reads a part of
its weight. It costs one all-reduce for each product that sums over it, and one all-gather for each
of its values that some op needs whole. Classes are taken greedily, most weight bytes per collective
first, as long as no tensor would be cut along two axes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from hetc.errors import Reason
from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.passes.shard_candidates import Candidate, candidates, choosers
from hetc.passes.shard_classes import AxisClasses, Holder, holder
from hetc.passes.shard_factors import Factor, Place


@dataclass(frozen=True)
class Cut:
    """`axis` in `groups` equal groups, each in `parts` equal parts; a socket holds one part of each
    group."""

    axis: int
    parts: int
    groups: int = 1


@dataclass(frozen=True)
class PlanOptions:
    """How many sockets there are; a weight whose outputs would only be gathered is cut if it has
    `gather_bytes` or more."""

    sockets: int
    gather_bytes: int = 0


Cuts = Mapping[Holder, Cut]


@dataclass(frozen=True)
class Plan:
    """What is cut, and why or why not.

    `cuts` are those of values, and of weights as one op reads them. `active` has the factor along
    which an op works on parts. `reasons` is about everything in the classes that were looked at.
    """

    cuts: Cuts
    active: Mapping[Op, Factor]
    reasons: Mapping[Holder, Reason]


def plan_cuts(
    graph: Graph, options: PlanOptions, given: Mapping[Value, Cut], whole: Collection[Value]
) -> Plan:
    """Choose the cuts of `graph`.

    `given` are the cuts of states and of the results of calls, as called graphs need or leave them;
    `whole` are the outputs that every socket must have whole.
    """
    routers = choosers(graph)
    classes = AxisClasses(graph, routers)
    cuts: dict[Holder, Cut] = dict(given.items())
    reasons: dict[Holder, Reason] = {
        holder(op, value): Reason("HETC-P201", "every socket must rank the same scores")
        for op in routers
        for value in op.operands[1:]
    }
    for candidate in sorted(candidates(graph, classes, given, whole), key=lambda item: item.rank):
        choice = _choose(candidate, classes, options, cuts)
        if isinstance(choice, Reason):
            for held in candidate.holders:
                reasons.setdefault(held, choice)
            # Of a weight, what is said of its outputs counts.
            columns = (holder(op, op.weight) for op in candidate.columns)
            reasons.update({held: choice for held in columns if held not in cuts})
        else:
            cuts.update(choice)
            reasons.update(dict.fromkeys(choice, _why(candidate, choice)))
    active = {
        op: factor
        for op, known in classes.factors.items()
        for factor in known
        if _is_cut(op, factor, cuts)
    }
    return Plan(cuts, active, reasons)


def _is_cut(op: Op, factor: Factor, cuts: Cuts) -> bool:
    def cut(place: Place) -> Cut | None:
        found = cuts.get(holder(op, place.value))
        return found if found is not None and found.axis == place.axis else None

    scales = {
        (found.parts, found.groups / place.groups) if (found := cut(place)) else None
        for place in factor.places
    }
    return None not in scales and len(scales) == 1 and None not in map(cut, factor.fewer)


def _choose(
    candidate: Candidate, classes: AxisClasses, options: PlanOptions, cuts: Cuts
) -> dict[Holder, Cut] | Reason:
    """The cuts of a candidate in as many parts as go, or why there are none."""
    if candidate.is_given:
        return _as_given(candidate, classes, cuts)
    if candidate.grows:
        return Reason("HETC-P202", "parts would have to be gathered over the whole context")
    gathers_only = not (candidate.rows or candidate.is_output)
    if gathers_only and candidate.nbytes < options.gather_bytes:
        return Reason("HETC-P203", "gathering its outputs would cost more than reading it whole")
    for parts in _divisors(options.sockets):
        choice = _cuts(candidate, classes, parts)
        if choice is not None:
            if any(held in cuts for held in choice):
                return Reason("HETC-P204", "it goes with tensors that are cut along another axis")
            return choice
    sizes = math.gcd(*(size // groups for size, groups in _sizes(candidate, classes)))
    return Reason(
        "HETC-P205", f"{options.sockets} sockets and {sizes} equal parts do not go together"
    )


def _as_given(candidate: Candidate, classes: AxisClasses, cuts: Cuts) -> dict[Holder, Cut] | Reason:
    """The cuts that follow from those of states and called graphs."""
    scales = set()
    for members in candidate.classes.values():
        for (held, axis), groups in members:
            if (cut := cuts.get(held)) is not None:
                scales.add((cut.parts, cut.groups // groups) if cut.axis == axis else None)
    first = scales.pop()
    choice = None if scales or first is None else _cuts(candidate, classes, *first)
    return choice or Reason("HETC-P206", "what meets here is cut in different ways")


def _cuts(
    candidate: Candidate, classes: AxisClasses, parts: int, scale: int = 1
) -> dict[Holder, Cut] | None:
    """Every axis of a candidate in `parts` parts, or None where that does not go.

    Keys that are fewer than the parts are cut one by one, and each is held by several sockets.
    """
    parts_of = dict.fromkeys(candidate.classes, parts)
    for link in candidate.grouped:
        heads, keys = classes.find(link.heads)[0], classes.find(link.keys)[0]
        if heads != keys:
            if parts % link.keys_size and link.keys_size % parts:
                return None
            parts_of[keys] = min(parts, link.keys_size)
    if any(parts_of[classes.find(link.heads)[0]] != parts for link in candidate.grouped):
        return None
    choice: dict[Holder, Cut] = {}
    for root, members in candidate.classes.items():
        for (held, axis), groups in members:
            cut = Cut(axis, parts_of[root], groups * scale)
            twice = choice.setdefault(held, cut) != cut
            if twice or classes.sizes[held, axis] % (cut.parts * cut.groups):
                return None
    for link in candidate.grouped:
        query, key = choice[link.heads[0]], choice[link.keys[0]]
        if query.groups != key.groups or (query.groups > 1 and query.parts != key.parts):
            return None
    return choice


def _sizes(candidate: Candidate, classes: AxisClasses) -> Iterator[tuple[int, int]]:
    for members in candidate.classes.values():
        for axis, groups in members:
            yield classes.sizes[axis], groups


def _divisors(sockets: int) -> Iterator[int]:
    """Those above 1, the largest first."""
    return (parts for parts in range(sockets, 1, -1) if sockets % parts == 0)


def _why(candidate: Candidate, choice: Cuts) -> Reason:
    if (attention := candidate.attention) is not None:
        held = []
        for value, what in ((attention.q, "query"), (attention.k, "key")):
            heads, cut = value.shape[1], choice.get(value)
            assert isinstance(heads, int)
            held.append(f"{heads // cut.parts if cut else heads} of {heads} {what} heads")
        return Reason("HETC-P210", f"a socket has {' and '.join(held)}")
    if candidate.is_given:
        return Reason("HETC-P211", "as the layers that use it are cut")
    if candidate.rows:
        return Reason("HETC-P212", "a socket has a part of the inner axis, which is summed over")
    return Reason("HETC-P213", "a socket has a part of the outputs, which are gathered")
