"""Lift attention: whatever stands between the product with the keys and the product with the values
becomes one op.

No fixed pattern is matched. From `softmax(...) @ v` the walk goes up to the score product and
collects scale, softcap, masks and biases (index-only addends), sinks and shifts that softmax does
not see.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from hetc.ir.dims import DimLike, exact_div
from hetc.ir.graph import Graph, rebuild
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.elementwise import (
    Add,
    And,
    Cast,
    Div,
    Eq,
    IsNan,
    Maximum,
    Mul,
    Not,
    Sub,
    Tanh,
    Where,
)
from hetc.ir.ops.linear import MatMul
from hetc.ir.ops.reduce import ReduceMax, Softmax
from hetc.ir.ops.shape import Broadcast, Concat, Reshape, Slice, Transpose, normalize_axis
from hetc.ir.types import BOOL, Shape
from hetc.passes.index_only import IndexOnly
from hetc.passes.rewrite import fit, skip_casts
from hetc.passes.simplify import simplify, splat


@dataclass(frozen=True)
class Region:
    """What was collected between the two products, from the softmax upward; `factor` scales
    everything above."""

    factor: float = 1.0
    softcap: float | None = None
    masks: tuple[Value, ...] = ()
    sinks: Value | None = None
    shape: Shape = field(default=())


def lift_attention(graph: Graph) -> Graph:
    """`softmax(f(q @ k^T)) @ v` becomes `attention`; repeated key-value heads become grouped
    ones."""
    index_only = IndexOnly()

    def step(op: Op) -> Op | tuple[Value, ...] | None:
        if isinstance(op, MatMul):
            lifted = _lift(op, index_only)
            return None if lifted is None else fit(lifted, op)
        return None

    def group(op: Op) -> Op | None:
        if not isinstance(op, Attention):
            return None
        k, v = _ungrouped(op.k), _ungrouped(op.v)
        if k is None or v is None or k.shape[1] != v.shape[1]:
            return None
        return op.replace(k=k, v=v)

    # Twice: views of views come together in the first, and repeated heads show in the second.
    return rebuild(simplify(simplify(rebuild(graph, step))), group)


def _lift(product: MatMul, index_only: IndexOnly) -> Op | None:
    weights, dropped = _to_softmax(product.a)
    if weights is None or normalize_axis(weights.axis, weights.x.rank) != weights.x.rank - 1:
        return None
    found = _collect(weights.x, Region(shape=product.a.shape), index_only)
    if found is None:
        return None
    scores, region = found
    if (region.sinks is not None) != dropped:
        return None
    return _emit(product, scores, region)


def _to_softmax(value: Value) -> tuple[Softmax | None, bool]:
    """The softmax that the attention weights come from, and whether a last column was cut off on
    the way."""
    dropped = False
    while True:
        op = value.op
        if isinstance(op, Softmax):
            return op, dropped
        if isinstance(op, (Cast, Reshape)):
            value = op.x
        elif isinstance(op, Where) and _only_repairs_nan(op):
            value = op.operands[-1]
        elif (
            isinstance(op, Slice)
            and normalize_axis(op.axis, op.x.rank) == op.x.rank - 1
            and not dropped
        ):
            if op.start != 0 or op.x.shape[-1] - op.result.shape[-1] != 1:
                return None, False
            value, dropped = op.x, True
        else:
            return None, False


def _only_repairs_nan(op: Where) -> bool:
    """where(is_nan(w), 0, w): rows that see nothing get no weight, as `attention` gives them."""
    check = op.condition.op
    return isinstance(check, IsNan) and check.x is op.y and op.x == 0


def _collect(value: Value, region: Region, index_only: IndexOnly) -> tuple[MatMul, Region] | None:
    while True:
        value = skip_casts(value)
        op = value.op
        if isinstance(op, MatMul):
            return op, region
        step = _STEPS.get(type(op)) if op is not None else None
        taken = step(op, region, index_only) if step else None
        if taken is None:
            return None
        value, region = taken


Taken = tuple[Value, Region] | None


def _add(op: Add, region: Region, index_only: IndexOnly) -> Taken:
    blended = _blend(op, region, index_only)
    if blended is not None:
        return blended
    for scores, addend in ((op.x, op.y), (op.y, op.x)):
        if isinstance(scores, Value) and isinstance(addend, Value) and index_only(addend):
            mask = addend
            if region.factor != 1:
                mask = Mul(addend, region.factor, loc=op.loc).result
            if region.softcap is not None or index_only(scores):
                return None
            return scores, replace(region, masks=(*region.masks, mask))
    return None


def _blend(op: Add, region: Region, index_only: IndexOnly) -> Taken:
    """scores * b + low * (1 - b), where b is 1 for what is seen and 0 for what is not.

    Any other b makes a mask of no numbers, which is proven to mean nothing.
    """
    for scores, other in ((op.x, op.y), (op.y, op.x)):
        low = _low_times(other)
        kept = scores.op if isinstance(scores, Value) else None
        if low is None or not isinstance(kept, Mul) or region.softcap is not None:
            continue
        for x, b in ((kept.x, kept.y), (kept.y, kept.x)):
            if b is low.y and low.x == 1 and isinstance(b, Value) and index_only(b):
                assert isinstance(x, Value)
                unseen = Where(Eq(b, 0).result, -math.inf, math.nan, b.dtype, loc=op.loc).result
                mask = Where(Eq(b, 1).result, 0.0, unseen, loc=op.loc).result
                return x, replace(region, masks=(*region.masks, mask))
    return None


def _low_times(value: object) -> Sub | None:
    """The difference that `value` is a very low multiple of."""
    product = value.op if isinstance(value, Value) else None
    if not isinstance(product, Mul):
        return None
    for factor, number in ((product.x, product.y), (product.y, product.x)):
        if _hides(number) and isinstance(factor, Value) and isinstance(factor.op, Sub):
            return factor.op
    return None


def _where(op: Where, region: Region, index_only: IndexOnly) -> Taken:
    if region.softcap is not None or not index_only(op.condition):
        return None
    if isinstance(op.x, Value) and not isinstance(op.y, Value) and _hides(op.y):
        return op.x, replace(region, masks=(*region.masks, op.condition))
    if isinstance(op.y, Value) and not isinstance(op.x, Value) and _hides(op.x):
        visible = Not(op.condition, loc=op.loc).result
        return op.y, replace(region, masks=(*region.masks, visible))
    return None


def _hides(number: object) -> bool:
    return isinstance(number, (int, float)) and number <= -1e4


def _scale(op: Mul | Div, region: Region, index_only: IndexOnly) -> Taken:
    x, y = op.x, op.y
    if isinstance(op, Mul) and isinstance(y, Value) and isinstance(x, (int, float)):
        x, y = y, x
    if not isinstance(x, Value) or not isinstance(y, (int, float)) or y <= 0:
        return None
    factor = 1 / y if isinstance(op, Div) else float(y)
    return x, replace(region, factor=region.factor * factor)


def _tanh(op: Tanh, region: Region, index_only: IndexOnly) -> Taken:
    inner = skip_casts(op.x).op
    if region.softcap is not None or not isinstance(inner, (Div, Mul)):
        return None
    scaled = _scale(inner, Region(), index_only)
    if scaled is None or not math.isclose(region.factor * scaled[1].factor, 1.0, rel_tol=1e-6):
        return None
    # From here up, factors scale the scores inside the tanh.
    return scaled[0], replace(region, softcap=region.factor, factor=1.0)


def _shift(op: Sub, region: Region, index_only: IndexOnly) -> Taken:
    # Softmax does not see a shift that is constant along its axis.
    if region.softcap is not None or region.sinks is not None:
        return None
    shift = skip_casts(op.y).op if isinstance(op.y, Value) else None
    if isinstance(op.x, Value) and isinstance(shift, ReduceMax):
        last = shift.axes in ((-1,), (shift.x.rank - 1,))
        return (op.x, region) if last and shift.keepdim else None
    return None


def _floor(op: Maximum, region: Region, index_only: IndexOnly) -> Taken:
    # Scores end at the lowest number anyway, unless a tanh comes after.
    for scores, bound in ((op.x, op.y), (op.y, op.x)):
        number = splat(bound) if isinstance(bound, Value) else bound
        small = not isinstance(bound, Value) or bound.size == 1
        if isinstance(scores, Value) and small and _hides(number) and region.softcap is None:
            return scores, region
    return None


def _sinks(op: Concat, region: Region, index_only: IndexOnly) -> Taken:
    if (
        len(op.xs) != 2
        or normalize_axis(op.axis, op.xs[0].rank) != op.xs[0].rank - 1
        or region.sinks is not None
    ):
        return None
    scores, sinks = op.xs
    source = sinks
    while isinstance(source.op, (Broadcast, Reshape, Cast)):
        source = source.op.x
    if (
        sinks.shape[-1] != 1
        or source.shape != scores.shape[1:2]
        or region.factor != 1
        or region.masks
        or region.softcap
    ):
        return None
    return scores, replace(region, sinks=source)


def _reshape(op: Reshape, region: Region, index_only: IndexOnly) -> Taken:
    same = op.shape[-2:] == op.x.shape[-2:]
    return (op.x, region) if same else None


_STEPS: dict[type[Op], Callable[[Any, Region, IndexOnly], Taken]] = {
    Add: _add,
    Where: _where,
    Mul: _scale,
    Div: _scale,
    Tanh: _tanh,
    Sub: _shift,
    Maximum: _floor,
    Concat: _sinks,
    Reshape: _reshape,
}


def _emit(product: MatMul, scores: MatMul, region: Region) -> Op | None:
    loc = product.loc
    (q, q_scale), (turned, k_scale), v = _unscaled(scores.a), _unscaled(scores.b), product.b
    swap = (*range(turned.rank - 2), turned.rank - 1, turned.rank - 2)
    k = Transpose(turned, swap, loc=loc).result
    scale = region.factor * q_scale * k_scale
    four = _four_axes(product, q)
    if four is None or not q.dtype.is_float:
        return None
    batch, heads = four
    q, k, v = (
        x if x.rank == 4 else Reshape(x, (batch, heads, *x.shape[-2:]), loc=loc).result
        for x in (q, _as_dtype(k, q), _as_dtype(v, q))
    )
    full = (batch, heads, q.shape[2], k.shape[2])
    mask = _combined(tuple(_four(mask, full) for mask in region.masks), loc)
    lifted = Attention(q, k, v, mask, region.sinks, scale=scale, softcap=region.softcap, loc=loc)
    return (
        lifted
        if product.result.rank == 4
        else Reshape(lifted.result, product.result.shape, loc=loc)
    )


def _unscaled(x: Value) -> tuple[Value, float]:
    """`x` before it was multiplied by a literal, and that literal."""
    op = x.op
    if isinstance(op, Mul):
        for tensor, factor in ((op.x, op.y), (op.y, op.x)):
            if isinstance(tensor, Value) and isinstance(factor, float):
                return tensor, factor
    return x, 1.0


def _as_dtype(x: Value, like: Value) -> Value:
    return x if x.dtype is like.dtype else Cast(x, like.dtype).result


def _four_axes(product: MatMul, q: Value) -> tuple[DimLike, DimLike] | None:
    """Batch and heads of the score product."""
    if q.rank == 4:
        return q.shape[0], q.shape[1]
    source = q.op
    if (
        q.rank == 3
        and isinstance(source, Reshape)
        and source.x.rank == 4
        and source.x.shape[-2:] == q.shape[-2:]
    ):
        return source.x.shape[0], source.x.shape[1]
    tokens_batch = [dim for dim in q.shape[:1] if not isinstance(dim, int)]
    if q.rank == 3 and tokens_batch and len(tokens_batch[0].symbols) == 1:
        ((monomial, heads),) = tokens_batch[0].terms
        return exact_div(tokens_batch[0], heads), heads if monomial else 1
    return None


def _four(mask: Value, full: Shape) -> Value:
    if mask.rank == 3 and mask.shape[0] not in (1, full[1]):
        return Reshape(mask, (full[0], full[1], *mask.shape[1:])).result
    return mask


def _combined(masks: tuple[Value, ...], loc: str) -> Value | None:
    """One mask: bool ones joined by `and`, addends by `add`; a mixture becomes an addend."""
    flags = [mask for mask in masks if mask.dtype is BOOL]
    addends = [mask for mask in masks if mask.dtype is not BOOL]
    flag = flags[0] if flags else None
    for other in flags[1:]:
        flag = And(flag, other, loc=loc).result if flag is not None else other
    total = addends[0] if addends else None
    for other in addends[1:]:
        if total is not None:
            total = Add(total, _as_dtype(other, total), loc=loc).result
    if flag is None or total is None:
        return flag if total is None else total
    return Where(flag, total, -math.inf, loc=loc).result


def _ungrouped(x: Value) -> Value | None:
    """Keys or values `[B, G, L, D]` before each head was repeated for its group of queries; `x`
    where none was."""
    batch, _, length, width = x.shape
    if isinstance(x.op, Reshape) and isinstance(x.op.x.op, Broadcast):
        repeated = x.op.x.op
        source = repeated.x
        if repeated.result.rank == source.rank == 5:
            groups = source.shape[1]
            single = source.shape == (batch, groups, 1, length, width)
            if single and repeated.shape[:2] == (batch, groups) and isinstance(groups, int):
                return Reshape(source, (batch, groups, length, width), loc=x.op.loc).result
    if (
        isinstance(x.op, Broadcast)
        and x.op.x.rank == 4
        and x.op.x.shape == (batch, 1, length, width)
    ):
        return x.op.x
    return x
