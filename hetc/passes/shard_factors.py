"""Which axes of an op can be cut together: its factors.

A factor names axes of the operands and results of one op such that, with each cut in the same
parts, the op on the parts gives the parts of its results, as Shardy's sharding rules do
(https://openxla.org/shardy/sharding_representation). An axis that no factor of the op names must be
whole for it. A `summed` factor leaves partial sums instead of parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hetc.ir.dims import DimLike, product
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention, Rope
from hetc.ir.ops.elementwise import Elementwise
from hetc.ir.ops.index import Embedding, Gather, Sort, TopK
from hetc.ir.ops.linear import ExpertLinear, Linear, MatMul
from hetc.ir.ops.norm import Norm
from hetc.ir.ops.quant import Dequantize, Unpack4
from hetc.ir.ops.recurrence import LinearAttention
from hetc.ir.ops.reduce import CumSum, LogSoftmax, Reduce, Softmax, Sum
from hetc.ir.ops.sequence import Conv1dCausal, KeepLast, KVAppend, Scan
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
from hetc.ir.ops.source import Full
from hetc.ir.types import Shape


@dataclass(frozen=True)
class Place:
    """Axis `axis` of `value`: `groups` copies of the factor's axis, one after the other."""

    value: Value
    axis: int
    groups: int = 1

    @property
    def size(self) -> DimLike:
        return self.value.shape[self.axis]


@dataclass(frozen=True)
class Factor:
    """Axes that are cut alike. `fewer` are those of grouped key heads: cut alike where they have as
    many elements as there are parts, else each element is held by several sockets."""

    operands: tuple[Place, ...]
    results: tuple[Place, ...] = ()
    fewer: tuple[Place, ...] = ()
    summed: bool = False

    @property
    def places(self) -> tuple[Place, ...]:
        return self.operands + self.results


def factors(op: Op) -> list[Factor]:
    """The factors of `op` over axes of a known size above 1; none for an op without a rule."""
    rule = next((rule for cls, rule in _RULES if isinstance(op, cls)), None)
    return [kept for found in (rule(op) if rule else ()) if (kept := _divisible(found))]


def _divisible(found: Factor) -> Factor | None:
    parts = [
        tuple(place for place in places if isinstance(place.size, int) and place.size > 1)
        for places in (found.operands, found.results, found.fewer)
    ]
    # An axis whose size is a symbol is never cut, so neither is what goes along with it.
    symbolic = any(not isinstance(place.size, int) for place in found.places)
    if symbolic or not (parts[0] or parts[1]):
        return None
    return Factor(parts[0], parts[1], parts[2], found.summed)


def _along(op: Op, operand: int = 0, *skip: int) -> Iterator[Factor]:
    """Every axis of one operand with the same axis of every result, but for those to skip."""
    x = op.operands[operand]
    gone = {normalize_axis(axis, x.rank) for axis in skip}
    for axis in range(x.rank):
        if axis not in gone:
            yield Factor((Place(x, axis),), tuple(Place(result, axis) for result in op.results))


def _aligned(op: Op, *skip: int) -> Iterator[Factor]:
    """Axes of operands that broadcast against each other, counted from the back in `skip`."""
    rank = op.result.rank
    for back in range(1, rank + 1):
        if -back not in skip:
            operands = tuple(
                Place(value, value.rank - back)
                for value in op.operands
                if value.rank >= back and value.shape[-back] != 1
            )
            yield Factor(operands, (Place(op.result, rank - back),))


def _off_axis(op: Any) -> Iterator[Factor]:
    return _along(op, 0, op.axis)


def _off_axes(op: Any) -> Iterator[Factor]:
    return _along(op, 0, *op.axes)


def _reduce(op: Any) -> Iterator[Factor]:
    gone = {normalize_axis(axis, op.x.rank) for axis in op.axes}
    after = 0
    for axis in range(op.x.rank):
        if axis not in gone:
            yield Factor((Place(op.x, axis),), (Place(op.result, after),))
        elif isinstance(op, Sum):
            yield Factor((Place(op.x, axis),), summed=True)
        after += axis not in gone or op.keepdim


def _append(op: KVAppend) -> Iterator[Factor]:
    along = normalize_axis(op.axis, op.past.rank)
    for axis in range(op.past.rank):
        if axis != along:
            yield Factor((Place(op.past, axis), Place(op.new, axis)), (Place(op.result, axis),))


def _reshape(op: Reshape) -> Iterator[Factor]:
    """The first axes of the stretches of both shapes that hold the same elements."""
    for before, after in _stretches(op.x.shape, op.shape):
        yield Factor((Place(op.x, before),), (Place(op.result, after),))


def _stretches(before: Shape, after: Shape) -> Iterator[tuple[int, int]]:
    """Where a product of leading sizes is the same in both: `[B,T,32]` and `[B,T,4,8]` give the
    pairs (0, 0), (1, 1), (2, 2). Axes of size 1 begin nothing."""
    starts, ends = (
        {product(shape[:axis]): axis for axis, dim in enumerate(shape) if dim != 1}
        for shape in (before, after)
    )
    for offset, axis in starts.items():
        if offset in ends:
            yield axis, ends[offset]


def _transpose(op: Transpose) -> Iterator[Factor]:
    for after, before in enumerate(op.perm):
        yield Factor((Place(op.x, before),), (Place(op.result, after),))


def _slice(op: Slice) -> Iterator[Factor]:
    yield from _off_axis(op)
    along = normalize_axis(op.axis, op.x.rank)
    size, length = op.x.shape[along], op.result.shape[along]
    if not (isinstance(size, int) and isinstance(length, int) and length and size % length == 0):
        return
    if op.step == size // length:
        # Every step-th element: what a part holds of the result, it holds of the operand.
        yield Factor((Place(op.x, along),), (Place(op.result, along),))
    elif op.step == 1 and isinstance(op.start, int) and op.start % length == 0:
        yield Factor((Place(op.x, along, size // length),), (Place(op.result, along),))


def _split(op: Split) -> Iterator[Factor]:
    yield from _off_axis(op)
    along = normalize_axis(op.axis, op.x.rank)
    if len(set(op.sizes)) == 1:
        results = tuple(Place(result, along) for result in op.results)
        yield Factor((Place(op.x, along, len(results)),), results)


def _concat(op: Concat) -> Iterator[Factor]:
    along = normalize_axis(op.axis, op.result.rank)
    for axis in range(op.result.rank):
        xs = tuple(Place(x, axis) for x in op.xs)
        if axis != along:
            yield Factor(xs, (Place(op.result, axis),))
        elif len({place.size for place in xs}) == 1:
            yield Factor(xs, (Place(op.result, axis, len(xs)),))


def _pad(op: Pad) -> Iterator[Factor]:
    padded = [axis for axis in range(op.x.rank) if (op.low[axis], op.high[axis]) != (0, 0)]
    return _along(op, 0, *padded)


def _tile(op: Tile) -> Iterator[Factor]:
    return _along(op, 0, *(axis for axis, count in enumerate(op.repeats) if count != 1))


def _linear(op: Linear) -> Iterator[Factor]:
    inner = op.x.rank - 1
    for axis in range(inner):
        yield Factor((Place(op.x, axis),), (Place(op.result, axis),))
    bias = () if op.bias is None else (Place(op.bias, 0),)
    yield Factor((Place(op.weight, 0), *bias), (Place(op.result, inner),))
    yield Factor((Place(op.x, inner), Place(op.weight, 1)), summed=True)


def _expert_linear(op: ExpertLinear) -> Iterator[Factor]:
    inner, outer = op.inner_outer
    bias = () if op.bias is None else (Place(op.bias, 1),)
    yield Factor((Place(op.x, 0), Place(op.ids, 0)), (Place(op.result, 0),))
    yield Factor((Place(op.weight, outer), *bias), (Place(op.result, 1),))
    yield Factor((Place(op.x, 1), Place(op.weight, inner)), summed=True)


def _matmul(op: MatMul) -> Iterator[Factor]:
    a, b, result = op.a, op.b, op.result
    for back in range(3, result.rank + 1):
        operands = tuple(
            Place(x, x.rank - back) for x in (a, b) if x.rank >= back and x.shape[-back] != 1
        )
        yield Factor(operands, (Place(result, result.rank - back),))
    yield Factor((Place(a, a.rank - 2),), (Place(result, result.rank - 2),))
    yield Factor((Place(b, b.rank - 1),), (Place(result, result.rank - 1),))
    yield Factor((Place(a, a.rank - 1), Place(b, b.rank - 2)), summed=True)


def _embedding(op: Embedding) -> Iterator[Factor]:
    for axis in range(op.ids.rank):
        yield Factor((Place(op.ids, axis),), (Place(op.result, axis),))
    yield Factor((Place(op.table, 1),), (Place(op.result, op.ids.rank),))


def _gather(op: Gather) -> Iterator[Factor]:
    along = normalize_axis(op.axis, op.x.rank)
    for axis in range(op.ids.rank):
        yield Factor((Place(op.ids, axis),), (Place(op.result, along + axis),))
    for axis in range(op.x.rank):
        if axis != along:
            after = axis if axis < along else axis + op.ids.rank - 1
            yield Factor((Place(op.x, axis),), (Place(op.result, after),))


def _attention(op: Attention) -> Iterator[Factor]:
    heads = [Place(op.q, 1)]
    if op.mask is not None and op.mask.rank >= 3 and op.mask.shape[-3] != 1:
        heads.append(Place(op.mask, op.mask.rank - 3))
    heads += [Place(each, 0) for each in (op.sinks, op.slopes) if each is not None]
    keys = (Place(op.k, 1), Place(op.v, 1))
    alike = op.k.shape[1] == op.q.shape[1]
    yield Factor((*heads, *(keys if alike else ())), (Place(op.result, 1),), () if alike else keys)


def _conv(op: Conv1dCausal) -> Iterator[Factor]:
    if op.groups == op.x.shape[1] == op.weight.shape[0]:  # depthwise: a channel sees itself alone
        channels = [Place(op.x, 1), Place(op.weight, 0)]
        channels += [Place(op.bias, 0)] if op.bias is not None else []
        channels += [Place(op.history, 1)] if op.history is not None else []
        yield Factor(tuple(channels), (Place(op.result, 1),))


def _scan(op: Scan) -> Iterator[Factor]:
    along = normalize_axis(op.axis, op.x.rank)
    history, last = op.results
    for axis in range(op.x.rank):
        if axis != along:
            after = axis - (axis > along)
            initial = () if op.initial is None else (Place(op.initial, after),)
            decay = (Place(op.decay, axis),) if isinstance(op.decay, Value) else ()
            operands = (Place(op.x, axis), *decay, *initial)
            yield Factor(operands, (Place(history, axis), Place(last, after)))


def _linear_attention(op: LinearAttention) -> Iterator[Factor]:
    history, last = op.results
    own = [value for value in (op.v, op.decay, op.beta, op.initial) if value is not None]
    shared = (Place(op.q, 1), Place(op.k, 1))
    heads = tuple(Place(value, 1) for value in own)
    results = (Place(history, 1), Place(last, 1))
    alike = op.repeats == 1
    yield Factor((*heads, *(shared if alike else ())), results, () if alike else shared)
    # Columns of the state never meet.
    columns = (op.v,) if op.initial is None else (op.v, op.initial)
    yield Factor(tuple(Place(value, 3) for value in columns), (Place(history, 3), Place(last, 3)))


def _dequantize(op: Dequantize) -> Iterator[Factor]:
    # One number for a group of elements: parts of the last axis hold whole groups.
    for axis in range(op.x.rank):
        if op.scale.shape[axis] != 1:
            operands = tuple(Place(x, axis) for x in op.operands)
            yield Factor(operands, (Place(op.result, axis),))


def _unpack(op: Unpack4) -> Iterator[Factor]:
    # Halves of a byte stand next to each other: parts of bytes are parts of what is in them.
    for axis in range(op.x.rank):
        yield Factor((Place(op.x, axis),), (Place(op.result, axis),))


_RULES: tuple[tuple[type | tuple[type, ...], Callable[[Any], Iterator[Factor]]], ...] = (
    (Elementwise, _aligned),
    (Rope, lambda op: _aligned(op, -1)),
    (Linear, _linear),
    (ExpertLinear, _expert_linear),
    (MatMul, _matmul),
    (Attention, _attention),
    (Reshape, _reshape),
    (Transpose, _transpose),
    (KVAppend, _append),
    (Norm, lambda op: _along(op, 0, -1)),
    ((KeepLast, Softmax, LogSoftmax, CumSum, TopK, Sort), _off_axis),
    (Flip, _off_axes),
    (Reduce, _reduce),
    ((Broadcast, Full), _aligned),
    (Slice, _slice),
    (Split, _split),
    (Concat, _concat),
    (Pad, _pad),
    (Tile, _tile),
    (Embedding, _embedding),
    (Gather, _gather),
    (Conv1dCausal, _conv),
    (Scan, _scan),
    (LinearAttention, _linear_attention),
    (Dequantize, _dequantize),
    (Unpack4, _unpack),
)
