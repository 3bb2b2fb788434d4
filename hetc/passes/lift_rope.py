"""Lift rotary position embeddings: x * cos + rotate(x) * sin becomes `rope(x, cos, sin)`."""

from __future__ import annotations

from dataclasses import dataclass

from hetc.ir.dims import DimLike
from hetc.ir.graph import Graph, rebuild
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Rope
from hetc.ir.ops.elementwise import Add, Mul, Neg, Sub, broadcast_shapes
from hetc.ir.ops.shape import Concat, Reshape, Slice, Split, normalize_axis
from hetc.passes.rewrite import fit, skip_casts


def lift_rope(graph: Graph) -> Graph:
    """The written-out forms of rotary embedding become `rope`; a part that is passed through joins
    it."""

    def step(op: Op) -> tuple[Value, ...] | None:
        lifted: Rope | None = None
        if isinstance(op, Add):
            lifted = _from_sum(op)
        elif (
            isinstance(op, Concat)
            and len(op.xs) == 2
            and normalize_axis(op.axis, op.xs[0].rank) == op.xs[0].rank - 1
        ):
            lifted = _from_halves(op) or _with_rest(op)
        return None if lifted is None else fit(lifted, op)

    return rebuild(graph, step)


def _from_sum(op: Add) -> Rope | None:
    """x * cos + rotate(x) * sin"""
    for left, right in ((op.x, op.y), (op.y, op.x)):
        if not (isinstance(left, Value) and isinstance(right, Value)):
            return None
        for x, cos in _factors(left):
            for turned, sin in _factors(right):
                form = _rotation(turned)
                if form is None or form[0] != _extent(x):
                    continue
                if cos.shape == sin.shape and _turns(x, cos):
                    return Rope(skip_casts(x), cos, sin, form[1], loc=op.loc)
    return None


def _from_halves(op: Concat) -> Rope | None:
    """[a * c - b * s, b * c + a * s] where a and b are the halves of x, and c and s have half its
    width"""
    first, second = (skip_casts(part).op for part in op.xs)
    if not (isinstance(first, Sub) and isinstance(second, Add)):
        return None
    for a, c in _factors(first.x):
        for b, s in _factors(first.y):
            joined = _joined(a, b)
            if joined is None or c.shape != s.shape:
                continue
            halves = joined.value(a, op.loc)
            straight, crossed = {(skip_casts(b), c), (skip_casts(a), s)}, set()
            for term in (second.x, second.y):
                crossed |= {(skip_casts(v), w) for v, w in _factors(term)} & straight
            if crossed == straight:
                cos, sin = (Concat((half, half), -1, loc=op.loc).result for half in (c, s))
                if _turns(halves, cos):
                    return Rope(halves, cos, sin, loc=op.loc)
    return None


def _with_rest(op: Concat) -> Rope | None:
    """[rope(x[..., :R]), x[..., R:]]"""
    rope, rest = skip_casts(op.xs[0]).op, skip_casts(op.xs[1])
    if isinstance(rope, Rope):
        joined = _joined(rope.x, rest)
        if joined is not None:
            whole = joined.value(rest, rope.loc)
            return Rope(whole, rope.cos, rope.sin, rope.interleaved, loc=rope.loc)
    return None


def _turns(x: Value, cos: Value) -> bool:
    width = cos.shape[-1]
    return width == x.shape[-1] and broadcast_shapes(x.shape, cos.shape) == x.shape


def _factors(value: object) -> list[tuple[Value, Value]]:
    if not isinstance(value, Value):
        return []
    product = skip_casts(value).op
    if isinstance(product, Mul) and isinstance(product.x, Value) and isinstance(product.y, Value):
        return [(product.x, product.y), (product.y, product.x)]
    return []


def _rotation(value: Value) -> tuple[Extent, bool] | None:
    """The x of rotate(x), and whether pairs are interleaved."""
    op = skip_casts(value).op
    interleaved = False
    if isinstance(op, Reshape) and isinstance(op.x.op, Concat):
        op, interleaved = op.x.op, True
    if not isinstance(op, Concat) or len(op.xs) != 2:
        return None
    if normalize_axis(op.axis, op.result.rank) != op.result.rank - 1:
        return None
    high, low = (skip_casts(part) for part in op.xs)
    if interleaved:
        if not (isinstance(high.op, Reshape) and isinstance(low.op, Reshape)):
            return None
        high, low = high.op.x, low.op.x
    if not isinstance(high.op, Neg):
        return None
    high = high.op.x
    if low.shape != high.shape:
        return None
    source = _pairs_of(low, high) if interleaved else _joined(low, high)
    return None if source is None else (source, interleaved)


@dataclass(frozen=True)
class Extent:
    """Elements `start` to `stop` of the last axis of `base`: what slices and splits read."""

    base: Value
    start: int
    stop: int

    def value(self, near: Value, loc: str) -> Value:
        """A value that holds just these elements; one that `near` was cut from where there is."""
        value = skip_casts(near)
        while isinstance(value.op, Slice | Split):
            value = skip_casts(value.op.x)
            if _extent(value) == self:
                return value
        return Slice(self.base, self.base.rank - 1, self.start, self.stop, loc=loc).result


def _extent(value: Value) -> Extent | None:
    """Which elements of which value `value` is; None for a last axis of unknown length."""
    value = skip_casts(value)
    op, width = value.op, value.shape[-1] if value.rank else None
    if not isinstance(width, int):
        return None
    start: DimLike | None = None
    if (
        isinstance(op, Slice)
        and op.step == 1
        and normalize_axis(op.axis, value.rank) == value.rank - 1
    ):
        start = op.start
    elif isinstance(op, Split) and normalize_axis(op.axis, value.rank) == value.rank - 1:
        start = 0
        for size in op.sizes[: value.index]:
            start = start + size
    inner = _extent(op.x) if isinstance(op, Slice | Split) and isinstance(start, int) else None
    if inner is None or not isinstance(start, int):
        return Extent(value, 0, width)
    return Extent(inner.base, inner.start + start, inner.start + start + width)


def _joined(low: Value, high: Value) -> Extent | None:
    """The extent that is `low` and right behind it `high`."""
    a, b = _extent(low), _extent(high)
    if a is None or b is None or a.base is not b.base or a.stop != b.start:
        return None
    return Extent(a.base, a.start, b.stop)


def _pairs_of(even: Value, odd: Value) -> Extent | None:
    a, b = skip_casts(even).op, skip_casts(odd).op
    if not (isinstance(a, Slice) and isinstance(b, Slice)) or skip_casts(a.x) is not skip_casts(
        b.x
    ):
        return None
    last = a.x.rank - 1
    along = all(normalize_axis(part.axis, last + 1) == last for part in (a, b))
    alternate = along and (a.start, a.step, b.start, b.step) == (0, 2, 1, 2)
    return _extent(a.x) if alternate else None
