"""What is known of the values of a graph while it is lowered: layouts, uses, and where they lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hetc.backends.triton.infer_layouts import TOKENS, infer, require_form
from hetc.backends.triton.layouts import Domain, Layout, Refusal
from hetc.bundle.launches import Argument, BufferRef
from hetc.errors import Reason
from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.ir.ops.sequence import KeepLast
from hetc.ir.ops.shape import View
from hetc.ir.ops.source import Source

# Integers of the IR are counters and ids: less than 2^31, and in f32 exact below 2^24.
_ELEMENTS = {"i64": "i32", "bool": "i32", "i16": "i32"}
# Ops that are kernels of their own; all others are row programs, or views.
PRODUCTS = frozenset({"linear", "expert_linear", "attention", "topk"})


# The number of what stands before the last axis: any.
ANY = 1 << 40


class MustStand(Exception):
    """`value` has to be in memory before a program can read it."""

    def __init__(self, value: Value) -> None:
        super().__init__(repr(value))
        self.value = value


@dataclass(frozen=True)
class Stored:
    """Where a value lies: `row` elements for each row of its domain, the value's columns from
    `offset` on, or, as a state of `heads` times `width`, in the contract's layout."""

    argument: Argument
    element: str
    domain: Domain
    row: int
    offset: int = 0
    heads: int = 0
    width: int = 0

    @property
    def is_state(self) -> bool:
        """Whether the heads of a sequence stand behind each other, each with its tokens."""
        return self.heads > 0


# Of what is only a step inside of a launch: nothing reads it.
NOWHERE = Stored(BufferRef(name=""), "f32", "none", 0)


def element_of(value: Value) -> str:
    """The element that a value has in memory."""
    return _ELEMENTS.get(value.dtype.name, value.dtype.name)


def source_of(value: Value) -> Value:
    """What `value` is a view of."""
    while isinstance(value.op, View) and not isinstance(value.op, KeepLast):
        value = value.op.operands[0]
    return value


@dataclass
class Values:
    """The values of `graph`; `stored` grows while it is lowered."""

    graph: Graph
    layouts: dict[Value, Layout] = field(default_factory=dict)
    stored: dict[Value, Stored] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)
    uses: dict[Value, int] = field(default_factory=dict)
    users: dict[Value, list[Op]] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph) -> Values:
        """Layouts and uses of all values; what has none is among the reasons."""
        values = cls(graph, users=graph.users())
        values.layouts[graph.inputs[0]] = TOKENS
        for op in graph.ops:
            try:
                require_form(op)
                if any(operand not in values.layouts for operand in op.operands):
                    continue
                values.layouts.update(zip(op.results, infer(op, values.layouts), strict=True))
            except Refusal as refusal:
                values.refuse(refusal)
        for op in reversed(graph.ops):
            for value in op.results:
                values.uses[value] = values._uses(value)
        return values

    def refuse(self, refusal: Refusal) -> None:
        """Keep why something cannot be computed."""
        reason = Reason(refusal.code, refusal.text, refusal.at)
        if reason not in self.reasons:
            self.reasons.append(reason)

    def _uses(self, value: Value) -> int:
        """How many ops read `value` or a view of it, and outputs."""
        count = 1 if value in self.graph.outputs else 0
        for user in self.users.get(value, ()):
            count += sum(self.uses[x] for x in user.results) if isinstance(user, View) else 1
        return count

    def readers(self, value: Value) -> Iterator[tuple[Op, Value]]:
        """The ops that read `value` or a view of it, and what they read."""
        for user in self.users.get(value, ()):
            if isinstance(user, View) and not isinstance(user, KeepLast):
                for result in user.results:
                    yield from self.readers(result)
            else:
                yield user, value

    def domain(self, value: Value) -> Domain:
        """Of what `value` has a row each."""
        return self.layouts[value].domain

    def columns(self, value: Value) -> int:
        """Elements of one row of `value`."""
        return self.layouts[value].columns

    def stands(self, value: Value) -> bool:
        """Whether `value` is computed once, into memory: products, and what several ops read."""
        op = value.op
        if op is None or isinstance(op, View | Source) or self.domain(value) == "none":
            return False
        return op.kind in PRODUCTS or self.uses[value] > 1
