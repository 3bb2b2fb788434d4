"""Group the ops of a block into stages: one stage per barrier or per matrix that is streamed.

Products that read one input are one stage (query, key and value; gate and up), so are the rotations
of queries and keys. What costs little runs in the stage that makes its operands, or that reads the
same state. Views of a weight or of a state run where they are used, since that is where the tensor
streams to.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from hetc.backends.dataflow.blocks import Run
from hetc.backends.dataflow.schema import Template
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Rope
from hetc.ir.ops.index import Embedding
from hetc.ir.ops.linear import ExpertLinear, Linear, MatMul
from hetc.ir.ops.quant import Dequantize, Unpack4
from hetc.ir.ops.sequence import KVAppend
from hetc.ir.ops.shape import View
from hetc.ir.ops.source import Source
from hetc.ir.ops.unary import Cast
from hetc.ir.types import DType

_TEMPLATES: dict[str, Template] = {
    "linear": "gemm",
    "matmul": "gemm",
    "expert_linear": "experts",
    "attention": "attention",
    "rms_norm": "norm",
    "layer_norm": "norm",
    "rope": "rotary",
    "topk": "topk",
    "sort": "topk",
    "argmax": "topk",
    "scan": "scan",
    "linear_attention": "scan",
    "conv1d_causal": "conv",
    "embedding": "lookup",
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "opaque": "generic",
}
# What runs where its result is used, if it does so to what lies in memory.
_TURNING = (View, Cast, Unpack4, Dequantize)
# Never merged with a neighbour that reads the same.
_ALONE = frozenset(
    {"all_reduce", "all_gather", "attention", "conv1d_causal", "linear_attention", "opaque", "scan"}
)


@dataclass(eq=False)
class Group:
    """Ops that become one stage; `anchors` are those that gave it its template, `turned` only turn
    what streams in from memory: views, casts and scales of weights."""

    template: Template
    anchors: list[Op] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    turned: set[Op] = field(default_factory=set)


def group_ops(run: Run) -> tuple[Group, ...]:
    """The ops of `run` in groups, each group after those that it reads from."""
    return _Grouping(run).groups()


class _Grouping:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.found: list[Group] = []
        self.place: dict[Op, int] = {}
        self.by_key: dict[Hashable, int] = {}
        self.stored = set(run.weights.values()) | set(run.states.values())
        self.states = set(run.states.values())
        self.deferred: dict[Value, Op] = {}
        self.reader: dict[Value, int] = {}

    def groups(self) -> tuple[Group, ...]:
        for op in self.run.ops:
            if self.waits(op):
                self.deferred.update(dict.fromkeys(op.results, op))
            else:
                self.put(op, self.group_for(op))
        for op in dict.fromkeys(self.deferred.values()):
            if op not in self.place:
                # Used by other blocks alone.
                self.put(op, self.at_key("elementwise", ("start",), -1))
        order = self.run.places
        for group in self.found:
            group.ops.sort(key=order.__getitem__)
        return tuple(self.found)

    def waits(self, op: Op) -> bool:
        """Whether `op` runs where its result is used: it only turns what lies in memory, or makes
        a constant."""
        if isinstance(op, Source):
            return True
        if not isinstance(op, _TURNING) or isinstance(op, Embedding | KVAppend):
            return False
        return any(self.is_stored(value) for value in op.operands) and all(
            self.is_stored(value) or value in self.deferred for value in op.operands
        )

    def is_stored(self, value: Value) -> bool:
        """Whether `value` streams in from memory, as it lies there or turned on its way."""
        return value in self.stored or isinstance(value.op, KVAppend) or self.is_turned(value)

    def is_turned(self, value: Value) -> bool:
        op = self.deferred.get(value)
        return op is not None and not isinstance(op, Source)

    def group_for(self, op: Op) -> int:
        latest = max(self.producers(op), default=-1)
        template = _TEMPLATES.get(op.kind)
        if template is None:
            # The next window of a convolution is made where the present one is: it streams in once.
            latest = max([latest, *(self.reader.get(value, -1) for value in op.operands)])
            # No producer: positions and other beginnings share one group.
            return latest if latest >= 0 else self.at_key("elementwise", ("start",), latest)
        if op.kind in _ALONE:
            return self.fresh(template)
        return self.at_key(template, _key(op), latest)

    def producers(self, op: Op) -> Iterator[int]:
        for value in op.operands:
            if value in self.deferred:
                yield from self.producers_of_deferred(self.deferred[value])
            elif value.op is not None and value.op in self.place:
                yield self.place[value.op]

    def producers_of_deferred(self, op: Op) -> Iterator[int]:
        if op in self.place:
            yield self.place[op]
        yield from self.producers(op)

    def at_key(self, template: Template, key: Hashable, latest: int) -> int:
        """The group of `key` where it comes after `latest`, else a new one."""
        place = self.by_key.get(key, -1)
        if place <= latest:
            place = self.by_key[key] = self.fresh(template)
        return place

    def fresh(self, template: Template) -> int:
        self.found.append(Group(template))
        return len(self.found) - 1

    def put(self, op: Op, place: int) -> None:
        if op in self.place:
            return
        for value in op.operands:
            waiting = self.deferred.get(value)
            if waiting is not None:
                self.put(waiting, place)
            if value in self.states and not isinstance(op, KVAppend):
                self.reader[value] = place
        self.place[op] = place
        group = self.found[place]
        group.ops.append(op)
        if all(self.is_turned(value) for value in op.results):
            group.turned.add(op)
        if _TEMPLATES.get(op.kind) == group.template:
            group.anchors.append(op)


def _key(op: Op) -> Hashable:
    """Anchors with one key are one stage."""
    if isinstance(op, Linear):
        return "linear", op.x, _storage(op.weight)
    if isinstance(op, MatMul):
        return "matmul", op.a
    if isinstance(op, ExpertLinear):
        return "experts", op.x, op.ids
    if isinstance(op, Rope):
        return "rotary", op.cos, op.sin
    if isinstance(op, Embedding):
        return "lookup", op.ids
    return op


def _storage(matrix: Value) -> tuple[DType, bool]:
    """The type of the numbers that a matrix is stored in, and whether two elements are in each: of
    matrices side by side, it is one."""
    op = matrix.op
    if not isinstance(op, Dequantize):
        return matrix.dtype, False
    codes = op.x.op
    return (codes.x.dtype, True) if isinstance(codes, Unpack4) else (op.x.dtype, False)
