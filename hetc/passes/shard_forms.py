"""The forms of a value on a socket: whole, a part or an addend of it, and the ways between them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from hetc.errors import Reason
from hetc.ir.graph import Graph, GraphBuilder
from hetc.ir.op import Value
from hetc.ir.ops.control import AllGather, AllReduce, Call, Collective, TakePart, describe
from hetc.ir.ops.elementwise import Add
from hetc.ir.ops.shape import Reshape
from hetc.ir.ops.source import Weight
from hetc.ir.types import Shape, TensorType
from hetc.passes.shard_plan import Cut


@dataclass(frozen=True)
class Partial:
    """The sockets of a group of `parts` hold addends of a value; `once` is added after the sum."""

    parts: int
    once: Value | None = None


Form = Cut | Partial | None
"""None: every socket has it whole."""


@dataclass
class LocalWeights:
    """The parts of weights that sockets hold, each under a name of its own."""

    parts: dict[str, tuple[Weight, Cut | None]] = field(default_factory=dict)
    _names: dict[tuple[str, Cut | None], str] = field(default_factory=dict)

    def name(self, op: Weight, cut: Cut | None) -> str:
        """The name of the part that `cut` leaves of a weight: that of the weight for the first part
        that is asked for, and with the cut for another (see `model_name`)."""
        key = op.name, cut
        if key not in self._names:
            name = op.name
            if name in self.parts:
                name += f":{cut.axis}/{cut.parts}" if cut else ":whole"
            self._names[key] = name
            self.parts[name] = op, cut
        return self._names[key]


_CUT = re.compile(r":(\d+/\d+|whole)$")


def model_name(name: str) -> str:
    """What the model calls the weight that a shard has a part of under `name`."""
    return _CUT.sub("", name)


def local_shape(shape: Shape, cut: Cut | None) -> Shape:
    """The shape of a socket's part."""
    if cut is None:
        return shape
    return (*shape[: cut.axis], shape[cut.axis] // cut.parts, *shape[cut.axis + 1 :])


def local_type(type: TensorType, cut: Cut | None) -> TensorType:
    return TensorType(type.dtype, local_shape(type.shape, cut))


class Forms:
    """Every value of a graph in the forms that it has been made in."""

    def __init__(self, graph: Graph, weights: LocalWeights) -> None:
        self.builder = GraphBuilder(graph.name)
        self.collectives: list[tuple[Collective, Reason]] = []
        self._weights = weights
        self._uses = Counter(graph.outputs)
        for op in graph.ops:
            self._uses.update(set(op.operands))
        self._first: dict[Value, Form] = {}
        self._made: dict[tuple[Value, Form], Value] = {}

    def of(self, value: Value) -> Form:
        """The form in which `value` was first made; weights come in any."""
        return self._first.get(value)

    def put(self, value: Value, made: Value, form: Form) -> None:
        """`value` of the old graph is `made` in the new one, in this form."""
        if made.op is not None:
            self.builder.add(made.op)
        self._first[value] = form
        self._made[value, form] = made
        if isinstance(form, Partial) and self._uses[value] > 1:
            # Summed at once: each of its readers would do it again.
            self.get(value, None)
            self._first[value] = None

    def get(self, value: Value, form: Form, loc: str = "") -> Value:
        """`value` in this form, whole or a part; the collectives that this takes are added."""
        key = value, form
        if key not in self._made:
            self._made[key] = self._make(value, form, loc)
        return self._made[key]

    def _make(self, value: Value, form: Form, loc: str) -> Value:
        assert not isinstance(form, Partial)
        if isinstance(op := value.op, Weight):
            local = Weight(self._weights.name(op, form), local_type(op.type, form), loc=op.loc)
            return self.builder.add(local)
        if form is not None:
            return self._take(self.get(value, None), form, loc)
        first = self.of(value)
        made = self._made[value, first]
        place = made.op.loc if made.op else loc
        if isinstance(first, Partial):
            return self._reduce(made, first, place)
        assert first is not None
        return self._gather(value, made, first, place)

    def _reduce(self, made: Value, partial: Partial, loc: str) -> Value:
        op = AllReduce(made, partial.parts, loc=loc)
        self._add(op, Reason("HETC-P220", f"each socket has an addend of {_name(made)}", loc))
        if partial.once is None:
            return op.result
        return self.builder.add(Add(partial.once, op.result, loc=loc))

    def _gather(self, value: Value, made: Value, cut: Cut, loc: str) -> Value:
        apart, axis = self._apart(made, cut, loc)
        op = AllGather(apart, axis, cut.parts, loc=loc)
        why = f"each socket has a part of {_name(made)}, which is needed whole"
        self._add(op, Reason("HETC-P221", why, loc))
        return self._together(op.result, value.shape, loc)

    def _take(self, whole: Value, cut: Cut, loc: str) -> Value:
        apart, axis = self._apart(whole, cut, loc)
        op = TakePart(apart, axis, cut.parts, loc=loc)
        self._add(op, Reason("HETC-P222", "every socket has it whole and needs a part", loc))
        return self._together(op.result, local_shape(whole.shape, cut), loc)

    def _apart(self, value: Value, cut: Cut, loc: str) -> tuple[Value, int]:
        """`value` with an axis of its own for the groups, and the axis behind it."""
        if cut.groups == 1:
            return value, cut.axis
        front, back = value.shape[: cut.axis], value.shape[cut.axis + 1 :]
        shape = (*front, cut.groups, value.shape[cut.axis] // cut.groups, *back)
        return self.builder.add(Reshape(value, shape, loc=loc)), cut.axis + 1

    def _together(self, value: Value, shape: Shape, loc: str) -> Value:
        same = value.shape == shape
        return value if same else self.builder.add(Reshape(value, shape, loc=loc))

    def _add(self, op: Collective, why: Reason) -> None:
        self.builder.add(op)
        self.collectives.append((op, why))


def _name(value: Value) -> str:
    return f"the {describe(value.op)}" if value.op and not isinstance(value.op, Call) else "it"
