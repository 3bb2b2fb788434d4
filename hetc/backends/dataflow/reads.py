"""What the ops of a stage read from memory, and the work that each byte brings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from hetc.backends.dataflow.blocks import Run
from hetc.backends.dataflow.groups import Group
from hetc.ir.dims import DimLike, evaluate
from hetc.ir.op import Op, Value
from hetc.ir.ops.index import Embedding
from hetc.ir.ops.linear import ExpertLinear
from hetc.ir.ops.quant import Dequantize, Unpack4
from hetc.ir.ops.sequence import KVAppend
from hetc.ir.types import DType

Kind = Literal["weight", "state", "expert", "lookup"]
# Ops that multiply every element that they stream; all others read their tensors whole, once.
_STREAMED = frozenset({"linear", "matmul", "expert_linear", "attention"})


@dataclass(frozen=True, eq=False)
class Read:
    """A stored tensor that a stage reads in one iteration.

    `bytes` is what is moved, the expectation for experts; `macs_per_element` the multiply-adds that
    one element brings; `matrix`: it is streamed tile by tile through the lanes. What is stored of
    an element is a half where two of 4 bits lie in a byte.
    """

    tensor: str
    value: Value
    kind: Kind
    op: Op
    bytes: int
    macs_per_element: float
    matrix: bool

    @property
    def stored_bytes(self) -> int:
        """Bytes of one number as it is stored."""
        return self.value.dtype.bits // 8

    @property
    def element_bytes(self) -> float:
        """Bytes of one element."""
        return self.stored_bytes / self._packed

    @property
    def multiplied(self) -> DType:
        """The type that an element has where it is multiplied: that of its storage, unless it is
        dequantized on its way."""
        return self._matrix.dtype if self._is_dequantized else self.value.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K) of a matrix as it is multiplied, whichever way round it is stored or turned; K in
        stored numbers."""
        n, k = static(self._matrix.shape[-2]), static(self._matrix.shape[-1])
        k //= self._packed
        stored_kn = self.op.kind == "matmul" or getattr(self.op, "transposed", False)
        return (k, n) if stored_kn else (n, k)

    @property
    def _matrix(self) -> Value:
        """What the op multiplies with."""
        return self.op.operands[1] if self.op.operands[1:] else self.value

    @property
    def _is_dequantized(self) -> bool:
        return isinstance(self._matrix.op, Dequantize)

    @property
    def _packed(self) -> int:
        """Elements in one stored number."""
        whole = self._matrix.op
        return 2 if isinstance(whole, Dequantize) and isinstance(whole.x.op, Unpack4) else 1


def reads_of(run: Run, group: Group, bindings: Mapping[str, int]) -> tuple[Read, ...]:
    """The reads of one stage, each tensor once, matrices and state after small tensors."""
    found: dict[tuple[str, bool], Read] = {}
    names = {value: name for name, value in (*run.weights.items(), *run.states.items())}
    for op in group.ops:
        if op in group.turned:
            continue
        for value, streams in _stored(names, group, op):
            tensor = names[value]
            read = _read(run, op, tensor, value, bindings)
            if not streams:
                read = replace(read, macs_per_element=0.0, matrix=False)
            found.setdefault((tensor, read.kind == "lookup"), read)
    return tuple(sorted(found.values(), key=lambda read: read.matrix))


def _stored(names: Mapping[Value, str], group: Group, op: Op) -> Iterator[tuple[Value, bool]]:
    """The stored tensors that `op` reads, by itself or through what turns them on their way, and
    whether they stream through it: scales of groups are there before the elements come."""
    if isinstance(op, KVAppend):
        return
    for value in op.operands:
        streams = not isinstance(op, Dequantize) or value is op.x
        if value in names:
            yield value, streams
        elif isinstance(value.op, KVAppend) and value.op.past in names:
            yield value.op.past, streams
        elif value.op in group.turned and value.op is not None:
            for stored, inner in _stored(names, group, value.op):
                yield stored, streams and inner


def _read(run: Run, op: Op, tensor: str, value: Value, bindings: Mapping[str, int]) -> Read:
    kind: Kind = "state" if tensor in run.states else "weight"
    nbytes = evaluate(value.nbytes, bindings)
    if isinstance(op, Embedding):
        rows = evaluate(op.ids.size, bindings)
        row_bytes = evaluate(op.result.nbytes, bindings) // max(1, rows)
        return Read(tensor, value, "lookup", op, rows * row_bytes, 0.0, False)
    if isinstance(op, ExpertLinear) and value.rank == op.weight.rank:
        kind, nbytes = "expert", round(expected_experts(op, bindings) * _matrix_bytes(value))
    streamed = op.kind in _STREAMED and value.rank >= 2
    read = Read(tensor, value, kind, op, nbytes, 0.0, streamed or kind == "state")
    elements = max(1.0, nbytes / read.element_bytes)
    macs = evaluate(op.cost().flops, bindings) / 2 / elements if streamed else 0.0
    if op.kind == "attention":
        # Keys and values share the work of attention evenly.
        macs /= 2
    return replace(read, macs_per_element=macs)


def expected_experts(op: ExpertLinear, bindings: Mapping[str, int]) -> float:
    """Matrices read under uniform random routing of R rows to E experts: E (1 - (1 - 1/E)^R), and
    all R of them for one token, whose choices differ."""
    count, rows = evaluate(op.weight.shape[0], bindings), evaluate(op.ids.size, bindings)
    picks = picks_of(op, bindings)
    missed = 1.0
    for _ in range(rows // picks):
        missed *= 1 - min(picks, count) / count
    return count * (1 - missed)


def picks_of(op: ExpertLinear, bindings: Mapping[str, int]) -> int:
    """How many experts a token goes to: rows over tokens."""
    rows, tokens = evaluate(op.ids.size, bindings), bindings["B"] * bindings["T"]
    return max(1, rows // tokens) if rows % tokens == 0 else rows


def _matrix_bytes(experts: Value) -> int:
    return static(experts.nbytes) // static(experts.shape[0])


def static(dim: DimLike) -> int:
    """A size of a weight, which no symbol is in."""
    assert isinstance(dim, int), "weights have static shapes"
    return dim
