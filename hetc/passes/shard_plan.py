"""Choose which classes of axes are cut, and in how many parts.

A class is worth cutting where it holds the outputs of a product or the heads of attention: then
every socket reads a part of the weight, or of the keys and values. It costs one all-reduce for each
product that sums over it, and one all-gather for each of its values that some op needs whole.
Classes are taken greedily, most weight bytes per collective first, as long as no tensor would be
cut along two axes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from hetc.errors import Reason
from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.passes.index_only import ops_behind
from hetc.passes.shard_candidates import Candidate, candidates, choosers, uneven_slices
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
    classes = AxisClasses(graph, routers | uneven_slices(graph))
    cuts: dict[Holder, Cut] = dict(given.items())
    routed = Reason("HETC-P201", "every socket must rank the same scores")
    reasons = {held: routed for router in routers for held in _weights_of(router)}
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


def _weights_of(router: Op) -> Iterator[Holder]:
    """Its weight and bias, and what they are cast from."""
    parameters = router.operands[1:]
    for op in (router, *ops_behind(parameters)):
        for value in op.operands:
            if value is not router.operands[0]:
                yield holder(op, value)


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
    choice: dict[Holder, Cut] | Reason = Reason("HETC-P205", "there is one socket")
    for parts in _divisors(options.sockets):
        choice = _cuts(candidate, classes, parts)
        if not isinstance(choice, Reason):
            break
    return _apart(choice, cuts)


def _as_given(candidate: Candidate, classes: AxisClasses, cuts: Cuts) -> dict[Holder, Cut] | Reason:
    """The cuts that follow from those of states and called graphs."""
    scales = set()
    for members in candidate.classes.values():
        for (held, axis), groups in members:
            if (cut := cuts.get(held)) is not None:
                scales.add((cut.parts, cut.groups // groups) if cut.axis == axis else None)
    first = scales.pop()
    if scales or first is None:
        return Reason("HETC-P206", "what meets here is cut in different ways")
    return _apart(_cuts(candidate, classes, *first), cuts)


def _apart(choice: dict[Holder, Cut] | Reason, cuts: Cuts) -> dict[Holder, Cut] | Reason:
    """`choice`, unless it would cut a tensor in two ways."""
    if isinstance(choice, Reason) or all(
        cuts.get(held, cut) == cut for held, cut in choice.items()
    ):
        return choice
    return Reason("HETC-P204", "it goes with tensors that are cut along another axis")


def _cuts(
    candidate: Candidate, classes: AxisClasses, parts: int, scale: int = 1
) -> dict[Holder, Cut] | Reason:
    """Every axis of a candidate in `parts` parts, or why that does not go.

    Keys that are fewer than the parts are cut one by one, and each is held by several sockets.
    """
    parts_of = dict.fromkeys(candidate.classes, parts)
    for link in candidate.grouped:
        heads, keys = classes.find(link.heads)[0], classes.find(link.keys)[0]
        if heads != keys:
            parts_of[keys] = min(parts, link.keys_size)
            if parts % link.keys_size and link.keys_size % parts:
                return Reason("HETC-P214", f"{link.keys_size} key heads in {parts} parts")
    choice: dict[Holder, Cut] = {}
    for root, members in candidate.classes.items():
        for (held, axis), groups in members:
            cut = Cut(axis, parts_of[root], groups * scale)
            if choice.setdefault(held, cut) != cut:
                return Reason("HETC-P215", "a tensor would be cut along two axes")
            size = classes.sizes[held, axis]
            if size % (cut.parts * cut.groups):
                each = size // cut.groups
                return Reason("HETC-P216", f"{each} elements have no {cut.parts} equal parts")
    for link in candidate.grouped:
        query, key = choice[link.heads[0]], choice[link.keys[0]]
        # A socket must have the keys of its own queries.
        uneven = query.groups > 1 and query.parts != key.parts
        if query.parts != parts or query.groups != key.groups or uneven:
            return Reason("HETC-P217", "parts of its queries and of its keys would not match")
    return choice


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
