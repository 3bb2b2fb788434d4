"""Evaluate index-only masks at chosen positions.

A mask is a function of the query index, the key index and the length. Where its subgraph works
point by point on position ranges, it is evaluated at a few chosen positions, however far apart, by
letting every range count those positions instead of 0..S-1. Where it does not (running sums,
shifts), it is evaluated in full up to `FULL_LIMIT` rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hetc.errors import StateError
from hetc.ir.dims import Dim, evaluate, symbol, symbols_of
from hetc.ir.graph import Graph
from hetc.ir.interpret import WeightLookup, interpret
from hetc.ir.op import Op, Value
from hetc.ir.ops.elementwise import Binary, Elementwise
from hetc.ir.ops.shape import Broadcast, Pad, Reshape, Slice, Transpose
from hetc.ir.ops.source import Constant, Full, Iota, Weight
from hetc.ir.types import Array, TensorType
from hetc.passes.index_only import cone

FULL_LIMIT = 4608
FULL_LEAST = 512
EVERY_POSITION = 512
LENGTH = symbol("S")
_POINTWISE = (Elementwise, Reshape, Broadcast, Transpose, Full, Constant, Weight)


@dataclass(frozen=True)
class Probe:
    """A mask evaluated at `positions` x `positions` of a sequence of `length`: `array [B, H, n,
    n]`, f32 or bool."""

    positions: Array
    length: int
    array: Array


def constants_of(graph: Graph) -> set[int]:
    """Every whole number from 2 up that the ops hold: window and chunk sizes are among them."""
    found: set[int] = set()
    for op in graph.ops:
        for spec in op.signature:
            _collect(getattr(op, spec.name), found)
    return {number for number in found if number >= 2}


def _collect(item: object, found: set[int]) -> None:
    if isinstance(item, (bool, Value)):
        return
    if isinstance(item, TensorType):
        # A mask can be a table; its size bounds every number in it.
        item = item.shape
    if isinstance(item, int) or (
        isinstance(item, float) and item.is_integer() and abs(item) < 2**31
    ):
        found.add(abs(int(item)))
    elif isinstance(item, Dim):
        found.update(abs(factor) for monomial, factor in item.terms if not monomial)
    elif isinstance(item, tuple):
        for part in item:
            _collect(part, found)


def positions_around(constants: set[int], limit: int) -> Array:
    """Every position up to a `limit` of `EVERY_POSITION`; beyond, the first ones, and those just
    below, at and above each constant, its double, and each power of two.

    A constant that was not found shows at the powers of two as a mask without a short description.
    """
    if limit <= EVERY_POSITION:
        return np.arange(limit, dtype=np.int64)
    chosen = set(range(24))
    doubles = {2 * number for number in constants}
    for anchor in constants | doubles | {1 << n for n in range(5, limit.bit_length())}:
        chosen.update(range(anchor - 3, anchor + 4))
    return np.array(sorted(p for p in chosen if 0 <= p < limit), dtype=np.int64)


def probe_mask(mask: Value, weights: WeightLookup, limit: int) -> list[Probe]:
    """`mask` (last two axes: queries, keys) at informative positions.

    The last probe is the longest. The others have its first positions at shorter lengths, so that
    dependence on the length shows. Raises StateError (HETC-S020) where its constants are too large
    for a full evaluation that would be needed.
    """
    graph = cone((mask,))
    constants = {number for number in constants_of(graph) if number < limit}
    lengths = {17, limit // 2} | {number + d for number in constants for d in (-1, 1)}
    if all(_is_pointwise(op) for op in graph.ops):
        positions = positions_around(constants, limit)
        return [
            Probe(near, length, _evaluate_at(graph, near, length, weights))
            for length in sorted({n for n in lengths if 0 < n < limit} | {limit})
            for near in (positions[positions < length],)
        ]
    needed = max((number + 8 for number in constants), default=40)
    if needed > FULL_LIMIT and limit > FULL_LIMIT:
        raise StateError(
            "HETC-S020",
            "a mask cannot be proven: it is not computed point by point, and is too long to try",
            at=mask.op.loc if mask.op else "",
            found=f"constants up to {max(constants)}",
            do=f"bound the context to {FULL_LIMIT}, or export the model with position-wise masks",
        )
    longest = min(limit, max(FULL_LEAST, min(needed, FULL_LIMIT)))
    sizes = {n for n in lengths if 0 < n < longest} | {longest}
    return [_full(graph, length, weights) for length in sorted(sizes)]


def _full(graph: Graph, length: int, weights: WeightLookup) -> Probe:
    (array,) = interpret(graph, (), weights, {"B": 1, "S": length})
    return Probe(np.arange(length), length, _square(array, length))


def _is_pointwise(op: Op) -> bool:
    if not _mentions_length(op):
        return True
    if isinstance(op, Iota):
        return op.size == LENGTH
    if isinstance(op, (Slice, Pad)):
        dims = (op.start, op.stop) if isinstance(op, Slice) else (*op.low, *op.high)
        touched = op.x.shape[op.axis] if isinstance(op, Slice) else 1
        return not any("S" in symbols_of(dim) for dim in (*dims, touched) if dim is not None)
    return isinstance(op, _POINTWISE) and not (isinstance(op, Reshape) and _splits_length(op))


def _mentions_length(op: Op) -> bool:
    values = (*op.operands, *op.results)
    return bool(op.map_dims({"S": 0})) or any("S" in symbols_of(d) for v in values for d in v.shape)


def _splits_length(op: Reshape) -> bool:
    # A reshape keeps positions together as long as every dim with S is S itself, or B*S.
    return any(
        "S" in symbols_of(dim) and dim not in (LENGTH, LENGTH * symbol("B")) for dim in op.shape
    )


def _evaluate_at(graph: Graph, positions: Array, length: int, weights: WeightLookup) -> Array:
    """`graph` with every range of length S counting `positions`, sizes S standing for their number,
    literals S for `length`."""
    sizes = {"B": 1, "S": len(positions)}
    arrays: dict[Value, Array] = {}
    for op in graph.ops:
        operands = [arrays[value] for value in op.operands]
        result = _step(op, operands, positions, length, weights, sizes)
        arrays.update(zip(op.results, result, strict=True))
    return _square(arrays[graph.outputs[0]], len(positions))


def _step(
    op: Op,
    operands: Sequence[Array],
    positions: Array,
    length: int,
    weights: WeightLookup,
    sizes: dict[str, int],
) -> tuple[Array, ...]:
    if isinstance(op, Iota) and op.size == LENGTH:
        start = evaluate(op.start, {"B": 1, "S": length})
        return ((positions * op.step + start).astype(op.dtype.numpy),)
    if isinstance(op, Weight):
        return (weights(op.name),)
    literal_sizes = {"B": 1, "S": length}
    bound = op.at(literal_sizes if isinstance(op, Binary) or _splat(op) else sizes)
    if isinstance(op, Full):
        bound = op.replace(
            value=evaluate(op.value, literal_sizes) if isinstance(op.value, Dim) else op.value,
            shape=tuple(evaluate(dim, sizes) for dim in op.shape),
        )
    result = bound.semantics(*operands)
    return result if isinstance(result, tuple) else (result,)


def _splat(op: Op) -> bool:
    return isinstance(op, Elementwise)


def _square(array: Array, size: int) -> Array:
    wide = array if array.dtype == np.bool_ else array.astype(np.float32)
    shape = (*(1,) * (4 - wide.ndim), *wide.shape)
    return np.broadcast_to(wide.reshape(shape), (*shape[:2], size, size))
