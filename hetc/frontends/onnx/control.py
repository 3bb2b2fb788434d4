"""Subgraphs of a node: a decided branch, a choice between two, and loops of a known length.

A body is imported once for each trip, so that nothing of the loop is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from hetc.frontends.onnx.context import Bound, Context, Unsupported
from hetc.frontends.onnx.item import Item
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.table_shape import reshaped
from hetc.ir.ops.control import Opaque
from hetc.ir.ops.elementwise import Where
from hetc.ir.ops.index import Embedding, Gather, Index, IndexPut, PutAlong, TakeAlong
from hetc.ir.ops.shape import Concat, Slice, normalize_axis

if TYPE_CHECKING:
    from onnx import GraphProto

# Imports a subgraph with values for its inputs, and gives its outputs.
Run = Callable[["GraphProto", Mapping[str, Bound]], tuple[Bound, ...]]

# What fails on data that a condition may have kept from it.
_MAY_FAIL = (Embedding, Gather, Index, IndexPut, Opaque, PutAlong, TakeAlong)
# More trips of all loops, inner ones included, would make a graph that nobody wants to read or
# compile.
_MAX_TRIPS = 4096


def control(ctx: Context, node: Node, given: Sequence[Bound | None], run: Run) -> tuple[Bound, ...]:
    """The results of an `If`, a `Loop` or a `Scan`; raises Unsupported where data decide how long
    it runs.
    """
    if node.kind == "If":
        return _if(ctx, node, given[0], run)
    return _loop(ctx, node, given, run) if node.kind == "Loop" else _scan(ctx, node, given, run)


def _if(ctx: Context, node: Node, condition: Bound | None, run: Run) -> tuple[Bound, ...]:
    if not isinstance(condition, Item):
        raise TypeError("the condition is no tensor")
    then, otherwise = node.attributes["then_branch"], node.attributes["else_branch"]
    decided = condition.literal()
    if decided is not None:
        return run(then if decided else otherwise, {})
    # Neither branch has effects, so that both may be computed and one result taken.
    flag, before = reshaped(ctx, condition, ()), len(ctx.builder.ops)
    pairs = list(zip(run(then, {}), run(otherwise, {}), strict=True))
    if any(isinstance(op, _MAY_FAIL) for op in ctx.builder.ops[before:]):
        raise Unsupported("a choice, made by data, that may guard an index")
    if not all(isinstance(x, Item) and isinstance(y, Item) and x.type == y.type for x, y in pairs):
        raise Unsupported("a choice, made by data, between results of two types")
    return tuple(ctx.emit(Where, flag, x, y) for x, y in pairs)


def _loop(ctx: Context, node: Node, given: Sequence[Bound | None], run: Run) -> tuple[Bound, ...]:
    body: GraphProto = node.attributes["body"]
    limit, condition = given[0], given[1] if len(given) > 1 else None
    state = list(given[2:])
    most = _trips(limit) if isinstance(limit, Item) else None
    names = [item.name for item in body.input]
    rows: list[tuple[Bound, ...]] = []
    while most is None or len(rows) < most:
        if isinstance(condition, Item) and _decided(condition) is False:
            break
        _count_trip(ctx)
        values = dict(zip(names[2:], state, strict=True))
        # The body may leave its first two inputs unread; it may not leave them out.
        trip, going = ctx.number(len(rows)), condition or ctx.number(True)
        results = run(body, {names[0]: trip, names[1]: going, **_present(values)})
        condition, state = results[0], list(results[1 : 1 + len(state)])
        rows.append(results[1 + len(state) :])
    if not rows and len(body.output) > 1 + len(state):
        raise Unsupported("a loop that collects rows and never runs")
    collected = zip(*rows, strict=True) if rows else ()
    return (*_bound(state), *(_stacked(ctx, column, 0) for column in collected))


def _scan(ctx: Context, node: Node, given: Sequence[Bound | None], run: Run) -> tuple[Bound, ...]:
    body: GraphProto = node.attributes["body"]
    count: int = node.attributes["num_scan_inputs"]
    if node.version < 9:
        # Before, a first input held the lengths, and every other one had a batch axis.
        raise Unsupported("a Scan of operator set 8")
    states = len(given) - count
    state = list(given[:states])
    sources = [_tensor(item) for item in given[states:]]
    columns = len(body.output) - states
    axes = [
        normalize_axis(axis, x.rank)
        for axis, x in zip(node.get("scan_input_axes") or [0] * count, sources, strict=True)
    ]
    backwards = node.get("scan_input_directions") or [0] * count
    length = sources[0].shape[axes[0]]
    if not isinstance(length, int) or length == 0:
        raise Unsupported(f"a Scan over {length} rows")
    names = [item.name for item in body.input]
    rows: list[tuple[Bound, ...]] = []
    for trip in range(length):
        _count_trip(ctx)
        steps = [
            _row(ctx, x, axis, length - 1 - trip if reverse else trip)
            for x, axis, reverse in zip(sources, axes, backwards, strict=True)
        ]
        results = run(body, _present(dict(zip(names, [*state, *steps], strict=True))))
        state = list(results[:states])
        rows.append(results[states:])
    made = []
    axes = node.get("scan_output_axes") or [0] * columns
    turned = node.get("scan_output_directions") or [0] * columns
    for column, axis, reverse in zip(zip(*rows, strict=True), axes, turned, strict=True):
        made.append(_stacked(ctx, column[::-1] if reverse else column, axis))
    return (*_bound(state), *made)


def _count_trip(ctx: Context) -> None:
    ctx.trips += 1
    if ctx.trips > _MAX_TRIPS:
        raise Unsupported(f"loops of more than {_MAX_TRIPS} trips")


def _trips(limit: Item) -> int:
    count = limit.literal()
    if not isinstance(count, int):
        raise Unsupported("a loop whose length depends on data or sizes")
    return count


def _decided(condition: Item) -> bool:
    decided = condition.literal()
    if decided is None:
        raise Unsupported("a loop that data end")
    return bool(decided)


def _tensor(item: Bound | None) -> Item:
    if not isinstance(item, Item):
        raise TypeError("a scan reads something that is no tensor")
    return item


def _present(values: Mapping[str, Bound | None]) -> dict[str, Bound]:
    return {name: item for name, item in values.items() if item is not None}


def _bound(state: Sequence[Bound | None]) -> tuple[Bound, ...]:
    return tuple(item for item in state if item is not None)


def _row(ctx: Context, x: Item, axis: int, position: int) -> Item:
    row = ctx.emit(Slice, x, axis, position, position + 1)
    return reshaped(ctx, row, (*x.shape[:axis], *x.shape[axis + 1 :]))


def _stacked(ctx: Context, column: Sequence[Bound], axis: int) -> Item:
    first = _tensor(column[0])
    at = normalize_axis(axis, first.rank + 1)
    shape = (*first.shape[:at], 1, *first.shape[at:])
    if any(_tensor(item).type != first.type for item in column):
        raise Unsupported("a loop whose rows differ in type")
    parts = tuple(reshaped(ctx, _tensor(item), shape) for item in column)
    return parts[0] if len(parts) == 1 else ctx.emit(Concat, parts, at)
