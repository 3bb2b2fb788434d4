"""Proof that an op treats every token by itself, and where its results carry their tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hetc.errors import IRError
from hetc.ir.dims import DimLike, exact_div, product, symbols_of
from hetc.ir.op import Op, Value
from hetc.ir.ops.activation import Gated
from hetc.ir.ops.attention import Attention, Rope
from hetc.ir.ops.control import Opaque, describe
from hetc.ir.ops.elementwise import Elementwise
from hetc.ir.ops.index import Embedding, Gather, Index, PutAlong, Sort, TakeAlong, TopK
from hetc.ir.ops.linear import ExpertLinear, Linear, MatMul
from hetc.ir.ops.norm import LayerNorm, RMSNorm
from hetc.ir.ops.quant import Dequantize, Quantize, Unpack4
from hetc.ir.ops.recurrence import LinearAttention, Recurrence
from hetc.ir.ops.reduce import ArgMax, CumSum, LogSoftmax, Reduce, Softmax
from hetc.ir.ops.sequence import Conv1dCausal, Scan
from hetc.ir.ops.shape import (
    Broadcast,
    Concat,
    Flip,
    Pad,
    Reshape,
    Slice,
    Split,
    Tile,
    Transpose,
    normalize_axis,
)
from hetc.ir.ops.source import Full, Iota
from hetc.ir.types import Shape
from hetc.passes.declared_ops import declared_axes
from hetc.passes.length_use import as_dim, counts_length, holds_length, mentions_length
from hetc.passes.tokens import LENGTH, Axes, Mixes, TokenAxis


def token_axes(op: Op, axes: Axes) -> tuple[TokenAxis | None, ...]:
    """The token axes of the results of `op`, given those of its operands; raises Mixes where the op
    is not token by token."""
    if any(isinstance(value.op, Recurrence) and value.index == 1 for value in op.operands):
        raise Mixes("the state after the last token is read by the others")
    known = [axes[value] for value in op.operands]
    if all(axis is None for axis in known) and not isinstance(op, Iota):
        return _uniform(op)
    _check_literals(op)
    rule = next((rule for cls, rule in _RULES if isinstance(op, cls)), None)
    if rule is None:
        raise Mixes(f"hetc knows no token rule for {describe(op)}")
    answer = rule(op, axes)
    if isinstance(op, (Slice, Split, Pad)) and holds_length(op.attributes()):
        raise Mixes(f"{op.kind} is cut by the length of the sequence")
    found = answer if isinstance(answer, tuple) else (answer,) * len(op.results)
    for value, axis in zip(op.results, found, strict=True):
        if axis is not None:
            _check_sizes(op, value, axis)
    return found


def _check_sizes(op: Op, value: Value, axis: TokenAxis) -> None:
    """No axis but the tokens' may grow with the sequence: a sum over it would."""
    rest = (*value.shape[: axis.axis], *value.shape[axis.axis + 1 :])
    if value.shape[axis.axis] != axis.outer * axis.inner * LENGTH or holds_length(rest):
        raise Mixes(f"{op.kind} has sizes beside the tokens that depend on their number")


Answer = TokenAxis | None | tuple[TokenAxis | None, ...]


def _uniform(op: Op) -> tuple[TokenAxis | None, ...]:
    # What has tokens along an axis that is no token axis is the same along it, and must stay so.
    if isinstance(op, Full) and "S" in symbols_of(as_dim(op.value)):
        raise Mixes("the length of the sequence is used as a number")
    if isinstance(op, (Broadcast, Tile, Full)):
        return _spread(op)
    if isinstance(op, Elementwise):
        _check_literals(op)
    elif not isinstance(op, (Reshape, Transpose)) and mentions_length(op):
        raise Mixes(f"{op.kind} depends on the length of the sequence")
    return (None,) * len(op.results)


def _spread(op: Op) -> tuple[TokenAxis | None, ...]:
    # Something that is the same for every token, repeated along the token axis.
    found = [axis for axis, dim in enumerate(op.result.shape) if "S" in symbols_of(dim)]
    return (
        TokenAxis(found[0]) if len(found) == 1 and op.result.shape[found[0]] == LENGTH else None,
    )


def _iota(op: Iota, axes: Axes) -> Answer:
    if "S" in symbols_of(op.start):
        raise Mixes("positions are counted from the end of the sequence")
    if "S" not in symbols_of(op.size):
        return None
    if op.size != LENGTH:
        raise Mixes(f"a range over {op.size}")
    return TokenAxis(0)


def _check_literals(op: Op) -> None:
    if counts_length(op):
        raise Mixes("arithmetic with the length of the sequence")


def _opaque(op: Opaque, axes: Axes) -> Answer:
    return _aligned(op, list(op.operands), axes) if op.pointwise else declared_axes(op, axes)


def _aligned(op: Op, values: list[Value], axes: Axes) -> TokenAxis | None:
    """The common token axis of broadcast operands, counted in the result."""
    rank = op.result.rank
    found: TokenAxis | None = None
    for value in values:
        axis = axes[value]
        if axis is None:
            continue
        shifted = TokenAxis(axis.axis + rank - value.rank, axis.outer, axis.inner)
        if found is not None and shifted != found:
            raise Mixes("two operands have their tokens on different axes")
        found = shifted
    return found


def _reshape(op: Reshape, axes: Axes) -> Answer:
    source = axes[op.x]
    assert source is not None
    before = product(op.x.shape[: source.axis]) * source.outer
    return _locate(op.shape, before)


def _locate(shape: Shape, before: DimLike) -> TokenAxis:
    """The axis of `shape` that holds S when `before` elements stand in front of it."""
    passed: DimLike = 1
    for axis, dim in enumerate(shape):
        if "S" in symbols_of(dim):
            try:
                outer = exact_div(before, passed)
                inner = exact_div(exact_div(dim, outer), LENGTH)
            except IRError:
                raise Mixes("a reshape tears the token axis") from None
            return TokenAxis(axis, outer, inner)
        passed = passed * dim
    raise Mixes("a reshape loses the token axis")


def _transpose(op: Transpose, axes: Axes) -> Answer:
    source = axes[op.x]
    assert source is not None
    return TokenAxis(op.perm.index(source.axis), source.outer, source.inner)


def _broadcast(op: Broadcast, axes: Axes) -> Answer:
    source = axes[op.x]
    assert source is not None
    return TokenAxis(source.axis + len(op.shape) - op.x.rank, source.outer, source.inner)


def _off_axis(*names: str) -> Callable[[Any, Axes], Answer]:
    """A rule for ops that work along other axes than the tokens'; `names` are the attributes that
    hold axes."""

    def rule(op: Any, axes: Axes) -> Answer:
        source = axes[op.operands[0]]
        for name in names:
            item = getattr(op, name)
            for axis in item if isinstance(item, tuple) else (item,):
                if source is not None and normalize_axis(axis, op.operands[0].rank) == source.axis:
                    raise Mixes(f"{op.kind} runs along the token axis")
        return source

    return rule


def _reduce(op: Any, axes: Axes) -> Answer:
    source = _off_axis("axes")(op, axes)
    assert isinstance(source, TokenAxis)
    if op.keepdim:
        return source
    gone = [axis for axis in op.axes if normalize_axis(axis, op.x.rank) < source.axis]
    return TokenAxis(source.axis - len(gone), source.outer, source.inner)


def _argmax(op: ArgMax, axes: Axes) -> Answer:
    source = _off_axis("axis")(op, axes)
    assert isinstance(source, TokenAxis)
    before = normalize_axis(op.axis, op.x.rank) < source.axis and not op.keepdim
    return TokenAxis(source.axis - before, source.outer, source.inner)


def _concat(op: Concat, axes: Axes) -> Answer:
    found = {axes[x] for x in op.xs} - {None}
    axis = next(iter(found))
    assert axis is not None
    if len(found) > 1:
        raise Mixes("parts have their tokens on different axes")
    if normalize_axis(op.axis, op.xs[0].rank) == axis.axis:
        raise Mixes("concat runs along the token axis")
    return axis


def _pad(op: Pad, axes: Axes) -> Answer:
    source = axes[op.x]
    assert source is not None
    if (op.low[source.axis], op.high[source.axis]) != (0, 0):
        raise Mixes("pad runs along the token axis")
    return source


def _tile(op: Tile, axes: Axes) -> Answer:
    source = axes[op.x]
    assert source is not None
    repeats = op.repeats[source.axis]
    return source if repeats == 1 else TokenAxis(source.axis, source.outer * repeats, source.inner)


def _linear(op: Linear, axes: Axes) -> Answer:
    source = axes[op.x]
    if source is None or axes[op.weight] is not None:
        raise Mixes("the weight of a linear layer has a token axis")
    if source.axis == op.x.rank - 1:
        raise Mixes("linear contracts over the token axis")
    return source


def _matmul(op: MatMul, axes: Axes) -> Answer:
    left, right = axes[op.a], axes[op.b]
    rank = op.result.rank
    if left is not None and right is not None:
        a, b = left.axis + rank - op.a.rank, right.axis + rank - op.b.rank
        if a == b and a < rank - 2 and (left.outer, left.inner) == (right.outer, right.inner):
            return TokenAxis(a, left.outer, left.inner)
        raise Mixes("a product mixes tokens outside an attention that hetc recognises")
    source, value, contracted = (
        (left, op.a, op.a.rank - 1) if left else (right, op.b, op.b.rank - 2)
    )
    assert source is not None
    if source.axis == contracted:
        raise Mixes("a product contracts over the token axis")
    return TokenAxis(source.axis + rank - value.rank, source.outer, source.inner)


def _embedding(op: Embedding, axes: Axes) -> Answer:
    if axes[op.table] is not None:
        raise Mixes("rows are picked from a table with a token axis")
    return axes[op.ids]


def _gather(op: Gather, axes: Axes) -> Answer:
    table, ids = axes[op.x], axes[op.ids]
    axis = normalize_axis(op.axis, op.x.rank)
    if table is not None and ids is not None:
        raise Mixes("data is picked by data across tokens")
    if ids is not None:
        return TokenAxis(axis + ids.axis, ids.outer, ids.inner)
    assert table is not None
    if table.axis == axis:
        raise Mixes("gather runs along the token axis")
    shift = op.ids.rank - 1 if table.axis > axis else 0
    return TokenAxis(table.axis + shift, table.outer, table.inner)


def _index(op: Index, axes: Axes) -> Answer:
    if axes[op.x] is not None:
        raise Mixes("data with a token axis is indexed")
    rank = max(ids.rank for ids in op.ids)
    found = {
        TokenAxis(axis.axis + rank - ids.rank, axis.outer, axis.inner)
        for ids in op.ids
        if (axis := axes[ids]) is not None
    }
    if len(found) != 1:
        raise Mixes("index arrays have their tokens on different axes")
    (axis,) = found
    adjacent = op.axes == tuple(range(op.axes[0], op.axes[0] + len(op.axes)))
    return TokenAxis(axis.axis + (op.axes[0] if adjacent else 0), axis.outer, axis.inner)


def _along(op: TakeAlong | PutAlong, axes: Axes) -> Answer:
    found = {axes[value] for value in op.operands} - {None}
    if len(found) != 1:
        raise Mixes("operands have their tokens on different axes")
    (axis,) = found
    assert axis is not None
    if normalize_axis(op.axis, op.x.rank) == axis.axis:
        # Every token may take from one and the same row: that is a table, read by data.
        if isinstance(op, TakeAlong) and axes[op.x] is None and not holds_length(op.x.shape):
            return axis
        raise Mixes(f"{op.kind} runs along the token axis")
    # Both pair their rows by place: what has fewer rows would stand for the first tokens only.
    if op.x.shape[axis.axis] != op.ids.shape[axis.axis]:
        raise Mixes(f"{op.kind} pairs tokens with the rows of something else")
    return axis


def _norm(op: RMSNorm | LayerNorm, axes: Axes) -> Answer:
    source = axes[op.x]
    if source is None or source.axis == op.x.rank - 1:
        raise Mixes("a norm runs over the token axis")
    return source


def _by_group(op: Quantize | Dequantize | Unpack4, axes: Axes) -> Answer:
    source = axes[op.x]
    if source is None or source.axis == op.x.rank - 1:
        raise Mixes("groups of numbers run over the token axis")
    if any(axes[value] != source for value in op.operands):
        raise Mixes("numbers and their scales have their tokens on different axes")
    return source


def _expert_linear(op: ExpertLinear, axes: Axes) -> Answer:
    rows, ids = axes[op.x], axes[op.ids]
    if rows is None or rows != ids or rows.axis != 0 or axes[op.weight] is not None:
        raise Mixes("rows and expert ids differ in their token axis")
    return rows


def _attention(op: Attention, axes: Axes) -> Answer:
    for value in (op.q, op.k, op.v):
        if axes[value] != TokenAxis(2):
            raise Mixes("queries, keys or values have their tokens elsewhere than on axis 2")
    return TokenAxis(2)


def _conv(op: Conv1dCausal, axes: Axes) -> Answer:
    if axes[op.x] != TokenAxis(2):
        raise Mixes("a convolution whose last axis is not the tokens'")
    if any(axes[value] is not None for value in op.operands[1:]):
        raise Mixes("the filters of a convolution depend on the tokens")
    return TokenAxis(2)


def _scan(op: Scan, axes: Axes) -> Answer:
    axis = TokenAxis(normalize_axis(op.axis, op.x.rank))
    if axes[op.x] != axis or any(axes[value] not in (axis, None) for value in op.operands[1:]):
        raise Mixes("a scan along another axis than the tokens'")
    return axis, None


def _linear_attention(op: LinearAttention, axes: Axes) -> Answer:
    for value in op.operands:
        if value is not op.initial and axes[value] != TokenAxis(2):
            raise Mixes("an operand of linear attention has its tokens elsewhere than on axis 2")
    if op.initial is not None and axes[op.initial] is not None:
        raise Mixes("linear attention begins with a state that depends on the tokens")
    return TokenAxis(2), None


_RULES: tuple[tuple[type | tuple[type, ...], Callable[[Any, Axes], Answer]], ...] = (
    (Iota, _iota),
    ((Elementwise, Gated, Rope), lambda op, axes: _aligned(op, list(op.operands), axes)),
    (Opaque, _opaque),
    (Reshape, _reshape),
    (Transpose, _transpose),
    (Broadcast, _broadcast),
    (Concat, _concat),
    (Pad, _pad),
    (Tile, _tile),
    (Flip, _off_axis("axes")),
    (Reduce, _reduce),
    (ArgMax, _argmax),
    ((Slice, Split, Softmax, LogSoftmax, CumSum, TopK, Sort), _off_axis("axis")),
    (Linear, _linear),
    (MatMul, _matmul),
    (Embedding, _embedding),
    (Gather, _gather),
    (Index, _index),
    ((TakeAlong, PutAlong), _along),
    ((RMSNorm, LayerNorm), _norm),
    ((Quantize, Dequantize, Unpack4), _by_group),
    (ExpertLinear, _expert_linear),
    (Attention, _attention),
    (Conv1dCausal, _conv),
    (Scan, _scan),
    (LinearAttention, _linear_attention),
)
