"""The layout of every op's results, from those of its operands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hetc.backends.triton import elementwise
from hetc.backends.triton.layouts import (
    Axis,
    Layout,
    Refusal,
    atoms,
    joined,
    regrouped,
)
from hetc.ir.dims import parse_dim
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.elementwise_base import Elementwise
from hetc.ir.ops.index import Embedding, Gather, TopK
from hetc.ir.ops.linear import ExpertLinear, Linear
from hetc.ir.ops.quant import Unpack4
from hetc.ir.ops.reduce import CumSum, Reduce, Softmax
from hetc.ir.ops.sequence import KeepLast
from hetc.ir.ops.shape import Broadcast, Concat, Reshape, Slice, Split, Transpose
from hetc.ir.ops.source import Constant, Full, Iota, Weight

LAST, END = parse_dim("S-1"), parse_dim("S")
Layouts = dict[Value, Layout]
_LIKE_THEIR_OPERAND = frozenset({"rms_norm", "layer_norm", "rope", "dequantize"})


def require_form(op: Op) -> None:
    """Raise Refusal (HETC-E050) for an op of a kind that no kernel computes."""
    known = type(op) in _RULES or op.kind in _LIKE_THEIR_OPERAND or op.kind in elementwise.KINDS
    if not known and not (isinstance(op, Reduce) and op.kind in ("sum", "mean", "reduce_max")):
        raise Refusal("HETC-E050", f"a GPU kernel has no form of {op.kind}", op.loc)


def infer(op: Op, known: Layouts) -> tuple[Layout, ...]:
    """The layouts of the results of `op`; raises Refusal (HETC-E050, HETC-E056)."""
    rule = _RULES.get(type(op))
    try:
        if rule is not None:
            found = rule(op, known)
            return found if isinstance(found, tuple) else (found,)
        if isinstance(op, Elementwise):
            return (joined([known[value] for value in op.operands]),)
        if isinstance(op, Reduce):
            return (_reduced(op, known),)
    except Refusal as refusal:
        raise Refusal(refusal.code, refusal.text, op.loc) from None
    if op.kind in _LIKE_THEIR_OPERAND:
        return (known[op.operands[0]],)
    raise Refusal("HETC-E050", f"a GPU kernel has no form of {op.kind}", op.loc)


def _source(op: Any, known: Layouts) -> Layout:
    axes = tuple(atoms(dim) for dim in op.result.shape)
    counts = isinstance(op, Iota) and op.size == END
    return Layout("positions" if counts else "none", axes)


def _transpose(op: Transpose, known: Layouts) -> Layout:
    x = known[op.x]
    return Layout(x.domain, tuple(x.axes[axis] for axis in op.perm))


def _resized(x: Layout, axis: int, size: int) -> Layout:
    """`x` with another size of an axis of columns."""
    if any(isinstance(atom, str) for atom in x.axes[axis]):
        raise Refusal("HETC-E056", "an axis of tokens is cut")
    axes = list(x.axes)
    axes[axis] = () if size == 1 else (size,)
    return Layout(x.domain, tuple(axes))


def _static(value: Value, axis: int) -> int:
    size = value.shape[axis]
    if not isinstance(size, int):
        raise Refusal("HETC-E056", f"an axis of {size} is cut")
    return size


def _slice(op: Slice, known: Layouts) -> Layout:
    x, axis = known[op.x], op.axis % op.x.rank
    if x.axes[axis] == ("S",) and op.start == LAST and op.stop in (END, None):
        axes = (*x.axes[:axis], (), *x.axes[axis + 1 :])
        # Where all rows are the same, so is the last one.
        return Layout("none" if x.domain == "none" else "sequences", axes)
    return _resized(x, axis, _static(op.result, axis))


def _broadcast(op: Broadcast, known: Layouts) -> Layout:
    x = known[op.x]
    axes: list[Axis] = []
    padded = ((),) * (len(op.shape) - len(x.axes)) + x.axes
    for axis, dim in zip(padded, op.shape, strict=True):
        axes.append(axis or atoms(dim))
    return Layout(x.domain, tuple(axes))


def _split(op: Split, known: Layouts) -> tuple[Layout, ...]:
    axis = op.axis % op.x.rank
    return tuple(_resized(known[op.x], axis, _static(piece, axis)) for piece in op.results)


def _concat(op: Concat, known: Layouts) -> Layout:
    axis = op.axis % op.result.rank
    parts = [_resized(known[x], axis, 1) for x in op.xs]
    return _resized(joined(parts), axis, _static(op.result, axis))


def _gather(op: Gather, known: Layouts) -> Layout:
    axis = op.axis % op.x.rank
    if op.ids.rank != 1 or not isinstance(op.ids.op, Constant):
        raise Refusal("HETC-E057", "a GPU kernel gathers at constant places only")
    return _resized(known[op.x], axis, _static(op.result, axis))


def _embedding(op: Embedding, known: Layouts) -> Layout:
    ids = known[op.ids]
    return Layout(ids.domain, (*ids.axes, *known[op.table].axes[1:]))


def _linear(op: Linear | ExpertLinear, known: Layouts) -> Layout:
    x, width = known[op.x], _static(op.result, -1)
    return Layout(x.domain, (*x.axes[:-1], () if width == 1 else (width,)))


def _attention(op: Attention, known: Layouts) -> Layout:
    q, width = known[op.q], _static(op.result, -1)
    return Layout(q.domain, (*q.axes[:3], () if width == 1 else (width,)))


def _topk(op: TopK, known: Layouts) -> tuple[Layout, Layout]:
    found = _resized(known[op.x], op.axis % op.x.rank, op.k)
    return found, found


def _along_row(op: Softmax, known: Layouts) -> Layout:
    return _resized(known[op.x], op.axis % op.x.rank, _static(op.x, op.axis))


def _reduced(op: Reduce, known: Layouts) -> Layout:
    x = known[op.x]
    gone = {axis % op.x.rank for axis in op.axes}
    for axis in gone:
        _static(op.x, axis)
    kept = [(axis in gone, atoms) for axis, atoms in enumerate(x.axes)]
    return Layout(x.domain, tuple(() if g else axis for g, axis in kept if op.keepdim or not g))


def _cumsum(op: CumSum, known: Layouts) -> Layout:
    x, axis = known[op.x], op.axis % op.x.rank
    if not isinstance(op.x.op, Full) or x.axes[axis] != ("S",):
        raise Refusal("HETC-E050", "a GPU kernel has no form of cumsum")
    # A running sum of what is the same everywhere: a number for each position.
    return Layout("positions", x.axes)


_RULES: dict[type[Op], Callable[[Any, Layouts], Layout | tuple[Layout, ...]]] = {
    Weight: _source,
    Constant: _source,
    Iota: _source,
    Full: _source,
    Reshape: lambda op, known: regrouped(known[op.x], op.shape),
    Transpose: _transpose,
    Slice: _slice,
    Broadcast: _broadcast,
    Split: _split,
    Concat: _concat,
    Gather: _gather,
    Embedding: _embedding,
    Linear: _linear,
    ExpertLinear: _linear,
    Attention: _attention,
    TopK: _topk,
    Softmax: _along_row,
    CumSum: _cumsum,
    Unpack4: lambda op, known: _resized(known[op.x], op.x.rank - 1, _static(op.result, -1)),
    # Only what leaves the graph is kept so; its rows are not those of the tokens.
    KeepLast: lambda op, known: known[op.x],
}


TOKENS = Layout("tokens", (("B",), ("S",)))
