"""Lift rotary position embeddings: x * cos + rotate(x) * sin becomes `rope(x, cos, sin)`."""

from __future__ import annotations

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
                if form is None or form[0] is not skip_casts(x):
                    continue
                source, interleaved = form
                if cos.shape == sin.shape and _turns(source, cos):
                    return Rope(source, cos, sin, interleaved, loc=op.loc)
    return None


def _from_halves(op: Concat) -> Rope | None:
    """[a * c - b * s, b * c + a * s] where a and b are the halves of x, and c and s have half its
    width"""
    first, second = (skip_casts(part).op for part in op.xs)
    if not (isinstance(first, Sub) and isinstance(second, Add)):
        return None
    for a, c in _factors(first.x):
        for b, s in _factors(first.y):
            halves = _halves_of(a, b)
            if halves is None or c.shape != s.shape:
                continue
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
        whole = _halves_of(rope.x, rest)
        if whole is not None and whole.shape == op.result.shape:
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


def _rotation(value: Value) -> tuple[Value, bool] | None:
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
    source = _pairs_of(low, high) if interleaved else _halves_of(low, high)
    return None if source is None else (source, interleaved)


def _halves_of(low: Value, high: Value) -> Value | None:
    """The value whose last axis is `low` and then `high`."""
    low, high = skip_casts(low), skip_casts(high)
    a, b = low.op, high.op
    if isinstance(a, Split) and a is b and (low.index, high.index, len(a.sizes)) == (0, 1, 2):
        return skip_casts(a.x) if normalize_axis(a.axis, a.x.rank) == a.x.rank - 1 else None
    if isinstance(a, Slice) and isinstance(b, Slice) and skip_casts(a.x) is skip_casts(b.x):
        last = a.x.rank - 1
        joined = (
            a.start == 0 and low.shape[-1] == b.start and high.shape[-1] + b.start == a.x.shape[-1]
        )
        if joined and normalize_axis(a.axis, last + 1) == normalize_axis(b.axis, last + 1) == last:
            return skip_casts(a.x)
    return None


def _pairs_of(even: Value, odd: Value) -> Value | None:
    a, b = skip_casts(even).op, skip_casts(odd).op
    if not (isinstance(a, Slice) and isinstance(b, Slice)) or skip_casts(a.x) is not skip_casts(
        b.x
    ):
        return None
    last = a.x.rank - 1
    along = all(normalize_axis(part.axis, last + 1) == last for part in (a, b))
    alternate = along and (a.start, a.step, b.start, b.step) == (0, 2, 1, 2)
    return skip_casts(a.x) if alternate else None
