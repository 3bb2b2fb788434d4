"""Simplify: drop what does nothing and compute what two ops compute alike only once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hetc.ir.dims import DimLike
from hetc.ir.graph import Graph, rebuild
from hetc.ir.op import Op, Value
from hetc.ir.ops.elementwise import Add, And, Cast, Div, Mul, Not, Or, Pow, Sub, Where
from hetc.ir.ops.index import PutAlong, Sort
from hetc.ir.ops.linear import MatMul
from hetc.ir.ops.reduce import Reduce
from hetc.ir.ops.shape import (
    Broadcast,
    Concat,
    Reshape,
    Slice,
    Split,
    Transpose,
    normalize_axis,
)
from hetc.ir.ops.source import Constant, Full
from hetc.ir.types import BOOL

Answer = Op | tuple[Value, ...] | None


def simplify(graph: Graph) -> Graph:
    """One walk that removes no-ops, folds chains of views, turns splat constants into literals, and
    shares equal ops."""
    seen: dict[tuple[object, ...], Op] = {}

    def step(op: Op) -> Answer:
        answer = _simplify_op(op)
        if isinstance(answer, tuple):
            return answer
        current = answer or op
        known = seen.setdefault(structural_key(current), current)
        return known if known is not op else None

    return rebuild(graph, step)


def structural_key(op: Op) -> tuple[object, ...]:
    """Equal for ops that compute the same from the same values. The location does not count."""
    parts: list[object] = [op.kind]
    for spec in op.signature:
        item = getattr(op, spec.name)
        # 1, 1.0 and True are equal in Python and different attributes here.
        parts.append((type(item), item) if isinstance(item, (int, float)) else item)
    return tuple(parts)


def splat(value: object) -> float | int | bool | None:
    """The number that a constant tensor holds everywhere, if it is one."""
    if isinstance(value, Value):
        source = value.op
        while isinstance(source, (Cast, Broadcast, Reshape)):
            source = source.x.op
        if isinstance(source, Full) and isinstance(source.value, (int, float)):
            return source.value
        if isinstance(source, Constant) and not isinstance(source.data, tuple):
            return source.data
    return None


def _simplify_op(op: Op) -> Answer:
    rule = _RULES.get(type(op))
    if rule is None and isinstance(op, Reduce) and not op.axes:
        return (op.x,)
    return rule(op) if rule else None


def _cast(op: Cast) -> Answer:
    if op.dtype is op.x.dtype:
        return (op.x,)
    inner = op.x.op
    widening = isinstance(inner, Cast) and inner.dtype.is_float and inner.x.dtype is op.dtype
    if isinstance(inner, Cast) and widening and inner.dtype.bits > op.dtype.bits:
        return (inner.x,)  # a narrow float widened and narrowed again is itself
    return None


def _not(op: Not) -> Answer:
    if isinstance(op.x.op, Not):
        return (op.x.op.x,)
    number = splat(op.x) if op.x.dtype is BOOL else None
    return None if number is None else Full(not number, op.x.shape, BOOL, loc=op.loc)


def _logical(op: And | Or) -> Answer:
    for kept, dropped in ((op.x, op.y), (op.y, op.x)):
        number = splat(dropped)
        if number is None or not isinstance(kept, Value) or kept.dtype is not BOOL:
            continue
        if bool(number) is not isinstance(op, And):
            return Full(bool(number), op.result.shape, BOOL, loc=op.loc)
        same = kept.shape == op.result.shape
        return (kept,) if same else Broadcast(kept, op.result.shape, loc=op.loc)
    return None


def _put_along(op: PutAlong) -> Answer:
    """Indices that sort are a permutation: what is written at all of them stands everywhere."""
    axis, source = normalize_axis(op.axis, op.x.rank), op.ids
    while isinstance(source.op, Cast) and source.op.dtype.is_int:
        source = source.op.x
    sort = source.op
    everywhere = (
        isinstance(sort, Sort)
        and op.reduction == "none"
        and source.index == 1
        and normalize_axis(sort.axis, sort.x.rank) == axis
        and op.ids.shape == op.x.shape
        and op.updates.rank == op.x.rank
        and op.updates.shape[axis] == 1
    )
    return Broadcast(op.updates, op.x.shape, loc=op.loc) if everywhere else None


def _reshape(op: Reshape) -> Answer:
    if op.shape == op.x.shape:
        return (op.x,)
    if isinstance(op.x.op, Reshape):
        return _reshape(Reshape(op.x.op.x, op.shape, loc=op.loc)) or Reshape(
            op.x.op.x, op.shape, loc=op.loc
        )
    inner = op.x.op
    if isinstance(inner, Transpose) and inner.perm[0] == 0 and op.shape[2:] == op.x.shape[1:]:
        # Only the first axis is split, and it did not move: split it first, so that views meet.
        split = Reshape(inner.x, (*op.shape[:2], *inner.x.shape[1:]), loc=op.loc)
        perm = (0, 1, *(axis + 1 for axis in inner.perm[1:]))
        source = _reshape(split) or split
        value = source[0] if isinstance(source, tuple) else source.results[0]
        return Transpose(value, perm, loc=op.loc)
    return None


def _transpose(op: Transpose) -> Answer:
    if op.perm == tuple(range(op.x.rank)):
        return (op.x,)
    inner = op.x.op
    if isinstance(inner, MatMul) and inner.a.shape[-1] == 1:
        return _turned_product(op, inner)
    if isinstance(inner, Transpose):
        merged = Transpose(inner.x, tuple(inner.perm[axis] for axis in op.perm), loc=op.loc)
        return _transpose(merged) or merged
    return None


def _turned_product(op: Transpose, product: MatMul) -> Answer:
    """(a[...,M,1] @ b[...,1,N])^T  ->  b[...,N,1] * a[...,1,M]: so are angles of rotary embeddings
    made, frequencies times positions, and tokens stand before columns as elsewhere."""
    *rest, row, column = range(op.x.rank)
    if op.perm != (*rest, column, row) or not op.x.dtype.is_float:
        return None
    a, b = product.a, product.b
    tokens = Reshape(b, (*b.shape[:-2], b.shape[-1], 1), loc=op.loc)
    columns = Reshape(a, (*a.shape[:-2], 1, a.shape[-2]), loc=op.loc)
    return Mul(tokens.result, columns.result, loc=op.loc)


def _broadcast(op: Broadcast) -> Answer:
    return (op.x,) if op.shape == op.x.shape else None


def _slice(op: Slice) -> Answer:
    if op.result.shape == op.x.shape and op.start == 0:
        return (op.x,)
    inner = op.x.op
    axis = normalize_axis(op.axis, op.x.rank)
    if not isinstance(inner, (Concat, Slice)) or op.step != 1:
        return None
    if normalize_axis(inner.axis, op.x.rank) != axis:
        return None
    stop = op.x.shape[axis] if op.stop is None else op.stop
    if isinstance(inner, Slice):
        # Slices at fixed places stay apart: rotary embeddings show in them.
        if inner.step != 1 or (isinstance(op.start, int) and isinstance(stop, int)):
            return None
        return Slice(inner.x, axis, inner.start + op.start, inner.start + stop, loc=op.loc)
    # A slice that is one part of a concat reads that part alone.
    offset: DimLike = 0
    for part in inner.xs:
        if offset == op.start and offset + part.shape[axis] == stop:
            return (part,)
        offset = offset + part.shape[axis]
    return None


def _concat(op: Concat) -> Answer:
    kept = tuple(x for x in op.xs if x.shape[op.axis] != 0)
    if len(kept) == 1:
        return kept
    return Concat(kept, op.axis, loc=op.loc) if kept and len(kept) < len(op.xs) else None


def _split(op: Split) -> Answer:
    return (op.x,) if len(op.sizes) == 1 else None


def _binary(op: Add | Sub | Mul | Div | Pow) -> Answer:
    x, y = op.x, op.y
    left, right = splat(x), splat(y)
    if right is not None and isinstance(x, Value) and _harmless(x, y):
        literal = type(op)(x, _as(right, x), loc=op.loc)
        return _binary(literal) or literal
    if left is not None and isinstance(y, Value) and _harmless(y, x):
        literal = type(op)(_as(left, y), y, loc=op.loc)
        return _binary(literal) or literal
    neutral = 0 if isinstance(op, (Add, Sub)) else 1
    if isinstance(x, Value) and isinstance(y, (int, float)) and y == neutral:
        return (x,)
    if (
        isinstance(op, (Add, Mul))
        and isinstance(y, Value)
        and isinstance(x, (int, float))
        and x == neutral
    ):
        return (y,)
    return None


def _where(op: Where) -> Answer:
    which = splat(op.condition)
    if which is not None:
        taken = op.x if which else op.y
        if isinstance(taken, Value) and taken.type == op.result.type:
            return (taken,)
    if not isinstance(op.x, Value) and not isinstance(op.y, Value):
        return None
    for name in ("x", "y"):
        number = splat(getattr(op, name))
        if number is not None and _keeps_shape(op, name):
            return op.replace(**{name: _as(number, op.result)}, dtype=op.result.dtype)
    return None


def _keeps_shape(op: Where, dropped: str) -> bool:
    rest = [v for v in op.operands if v is not getattr(op, dropped)]
    return any(value.shape == op.result.shape for value in rest)


def _harmless(tensor: Value, constant: object) -> bool:
    # The literal may stand for the tensor only where that does not change the result's shape.
    assert isinstance(constant, Value)
    size: DimLike = constant.size
    return (size == 1 and constant.rank <= tensor.rank) or constant.shape == tensor.shape


def _as(number: float, like: Value) -> float | int | bool:
    return float(number) if like.dtype.is_float else int(number)


_RULES: dict[type[Op], Callable[[Any], Answer]] = {
    Cast: _cast,
    Not: _not,
    And: _logical,
    Or: _logical,
    PutAlong: _put_along,
    Reshape: _reshape,
    Transpose: _transpose,
    Broadcast: _broadcast,
    Slice: _slice,
    Concat: _concat,
    Split: _split,
    Add: _binary,
    Sub: _binary,
    Mul: _binary,
    Div: _binary,
    Pow: _binary,
    Where: _where,
}
