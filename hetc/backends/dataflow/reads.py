"""What the ops of a stage read from memory, and the work that each byte brings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from hetc.backends.dataflow.blocks import Run
from hetc.backends.dataflow.groups import Group
from hetc.ir.dims import DimLike, evaluate
from hetc.ir.op import Op, Value
from hetc.ir.ops.index import Embedding
from hetc.ir.ops.linear import ExpertLinear
from hetc.ir.ops.sequence import KVAppend

Kind = Literal["weight", "state", "expert", "lookup"]
# Ops that multiply every element that they stream; all others read their tensors whole, once.
_STREAMED = frozenset({"linear", "matmul", "expert_linear", "attention"})


@dataclass(frozen=True, eq=False)
class Read:
    """A stored tensor that a stage reads in one iteration.

    `bytes` is what is moved, the expectation for experts; `macs_per_element` the multiply-adds that
    one element brings; `matrix`: it is streamed tile by tile through the lanes.
    """

    tensor: str
    value: Value
    kind: Kind
    op: Op
    bytes: int
    macs_per_element: float
    matrix: bool

    @property
    def element_bytes(self) -> int:
        return self.value.dtype.bits // 8


def reads_of(run: Run, group: Group, bindings: Mapping[str, int]) -> tuple[Read, ...]:
    """The reads of one stage, each tensor once, matrices and state after small tensors."""
    found: dict[tuple[str, bool], Read] = {}
    names = {value: name for name, value in (*run.weights.items(), *run.states.items())}
    for op in group.ops:
        if op in group.turned:
            continue
        for tensor, value in _stored(names, group, op):
            read = _read(run, op, tensor, value, bindings)
            found.setdefault((tensor, read.kind == "lookup"), read)
    return tuple(sorted(found.values(), key=lambda read: read.matrix))


def _stored(names: Mapping[Value, str], group: Group, op: Op) -> Iterator[tuple[str, Value]]:
    """The stored tensors that `op` reads, by itself or through what turns them on their way."""
    if isinstance(op, KVAppend):
        return
    for value in op.operands:
        if value in names:
            yield names[value], value
        elif isinstance(value.op, KVAppend) and value.op.past in names:
            yield names[value.op.past], value.op.past
        elif value.op in group.turned and value.op is not None:
            yield from _stored(names, group, value.op)


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
    elements = max(1, nbytes // (value.dtype.bits // 8))
    macs = evaluate(op.cost().flops, bindings) / 2 / elements if streamed else 0.0
    if op.kind == "attention":
        # Keys and values share the work of attention evenly.
        macs /= 2
    return Read(tensor, value, kind, op, nbytes, macs, streamed or kind == "state")


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


def matrix_shape(read: Read) -> tuple[int, int]:
    """(N, K) of a matrix as it is multiplied, whichever way round it is stored or turned."""
    multiplied = read.op.operands[1] if read.op.operands[1:] else read.value
    n, k = static(multiplied.shape[-2]), static(multiplied.shape[-1])
    stored_kn = read.op.kind == "matmul" or getattr(read.op, "transposed", False)
    return (k, n) if stored_kn else (n, k)
