"""What could be cut together, what it would save, and which collectives it would need."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from hetc.ir.dims import capped_rows, symbols_of
from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.control import Call
from hetc.ir.ops.index import Sort, TopK
from hetc.ir.ops.linear import ExpertLinear, Linear
from hetc.ir.ops.reduce import ArgMax
from hetc.ir.ops.shape import Slice, normalize_axis
from hetc.passes.shard_classes import Axis, AxisClasses, Grouped, Holder, axes_of, holder


@dataclass
class Candidate:
    """Classes of axes that are cut together: one, or queries and the keys that serve them.

    `columns` are the products of whose outputs it would make parts, `rows` those that would sum
    over it; `gathered` are its values that something needs whole.
    """

    classes: dict[Axis, list[tuple[Axis, int]]] = field(default_factory=dict)
    grouped: list[Grouped] = field(default_factory=list)
    columns: list[Linear | ExpertLinear] = field(default_factory=list)
    rows: list[Linear | ExpertLinear] = field(default_factory=list)
    gathered: dict[Value, None] = field(default_factory=dict)
    attention: Attention | None = None
    is_given: bool = False
    is_output: bool = False

    @property
    def nbytes(self) -> int:
        """Of the weights that it would cut."""
        sizes = [op.weight.nbytes for op in (*self.columns, *self.rows)]
        return sum(size for size in sizes if isinstance(size, int))

    @property
    def rank(self) -> tuple[bool, float]:
        """Sorts what is given first, then most bytes for a collective first."""
        return not self.is_given, -self.nbytes / max(1, len(self.rows) + len(self.gathered))

    @property
    def holders(self) -> dict[Holder, None]:
        return {axis[0]: None for members in self.classes.values() for axis, _ in members}

    @property
    def grows(self) -> Value | None:
        """A value to gather that is as long as the context."""
        for value in self.gathered:
            names = frozenset().union(*map(symbols_of, value.shape))
            if any(name == "P" or capped_rows(name) for name in names):
                return value
        return None


def candidates(
    graph: Graph, classes: AxisClasses, given: Collection[Value], whole: Collection[Value]
) -> list[Candidate]:
    """Every candidate that holds outputs of a product, heads or something `given`, in the order of
    the graph. `whole` are the outputs of the graph that would be gathered."""
    members = classes.members()
    leader = _tied(classes, members)
    found: dict[Axis, Candidate] = {}

    def candidate(axis: Axis) -> Candidate:
        return found.setdefault(leader[classes.find(axis)[0]], Candidate())

    for root, joined in members.items():
        candidate(root).classes[root] = joined
    for link in classes.grouped:
        candidate(link.heads).grouped.append(link)
    for op in graph.ops:
        covered: set[Axis] = set()
        for factor in classes.factors[op]:
            axes = axes_of(op, factor.places)
            covered.update(axes, axes_of(op, factor.fewer))
            if isinstance(op, Linear | ExpertLinear):
                if any(place.value is op.weight for place in factor.places):
                    one = candidate(axes[0])
                    (one.rows if factor.summed else one.columns).append(op)
            elif isinstance(op, Attention) and any(place.value is op.q for place in factor.places):
                candidate(axes[0]).attention = op
        for value in op.operands:
            # A called graph says itself what it needs whole of the states that it is given.
            if not (isinstance(op, Call) and value in given):
                for axis in _known(classes, holder(op, value), value.rank):
                    if axis not in covered:
                        candidate(axis).gathered[value] = None
    for value in whole:
        for axis in _known(classes, value, value.rank):
            candidate(axis).gathered[value] = None
            candidate(axis).is_output = True
    for value in given:
        for axis in _known(classes, value, value.rank):
            candidate(axis).is_given = True
    return [one for one in found.values() if one.columns or one.attention or one.is_given]


def _known(classes: AxisClasses, held: Holder, rank: int) -> list[Axis]:
    return [(held, axis) for axis in range(rank) if (held, axis) in classes.sizes]


def _tied(classes: AxisClasses, roots: Collection[Axis]) -> dict[Axis, Axis]:
    """Class -> the class that leads those tied to it by grouped queries."""
    leader = {root: root for root in roots}
    for link in classes.grouped:
        heads, keys = (leader[classes.find(axis)[0]] for axis in (link.heads, link.keys))
        if heads != keys:
            leader.update({root: heads for root, led in leader.items() if led == keys})
    return leader


def uneven_slices(graph: Graph) -> set[Op]:
    """Slices of one axis that differ in length: queries and fewer keys, made by one product. They
    cannot all be cut like that axis."""
    found: dict[tuple[Value, int], list[Slice]] = {}
    for op in graph.ops:
        if isinstance(op, Slice):
            found.setdefault((op.x, normalize_axis(op.axis, op.x.rank)), []).append(op)
    return {
        op
        for (_, axis), slices in found.items()
        if len({one.result.shape[axis] for one in slices}) > 1
        for op in slices
    }


def choosers(graph: Graph) -> set[Op]:
    """The products whose outputs rank something: routers of experts."""
    seen: set[Value] = set()
    found: set[Op] = set()
    stack = [op.operands[0] for op in graph.ops if isinstance(op, TopK | Sort | ArgMax)]
    while stack:
        value = stack.pop()
        if value in seen or value.op is None:
            continue
        seen.add(value)
        if isinstance(value.op, Linear):
            found.add(value.op)
        elif not isinstance(value.op, ExpertLinear | Attention | Call):
            stack.extend(value.op.operands)
    return found
