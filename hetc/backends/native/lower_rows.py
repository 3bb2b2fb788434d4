"""Ops along one axis of a tensor, whichever it is: sums, orderings, choices by index, joining."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hetc.backends.native.indexed import PutAlong as PutAlongStage
from hetc.backends.native.indexed import TakeAlong as TakeAlongStage
from hetc.backends.native.model import Refused
from hetc.backends.native.reductions import COMBINE, Reduction
from hetc.backends.native.routing import Softmax as SoftmaxStage
from hetc.backends.native.routing import TopK as TopKStage
from hetc.backends.native.scans import Along
from hetc.backends.native.scans import Scan as ScanStage
from hetc.backends.native.scope import Scope
from hetc.backends.native.storage import element_of
from hetc.backends.native.values import HalfValues
from hetc.backends.native.views import View, as_rows, contiguous
from hetc.ir.dims import DimLike, product
from hetc.ir.op import Op, Value
from hetc.ir.ops.control import describe
from hetc.ir.ops.index import PutAlong, TakeAlong, TopK
from hetc.ir.ops.reduce import (
    ArgMax,
    ArgMin,
    Mean,
    ReduceMax,
    ReduceMin,
    Softmax,
    Sum,
)
from hetc.ir.ops.sequence import Scan
from hetc.ir.ops.shape import Concat
from hetc.ir.types import I64


def _known(x: View, axis: int, op: Op) -> int:
    """The size of `axis`, which code must know."""
    size = x.shape[axis]
    if not isinstance(size, int):
        raise Refused("HETC-E045", f"{describe(op)} runs along {size} elements, a size unknown", op)
    return size


def _indices(half: HalfValues, scope: Scope, ids: Value, op: Op) -> View:
    if ids.dtype is not I64:
        raise Refused("HETC-E041", f"the native engine indexes by i64, not {ids.dtype}", op)
    return half.view(scope, ids, op)


def _last(x: View, axis: int) -> View:
    """`x` with `axis` as its last axis."""
    return x.transposed([*(other for other in range(x.rank) if other != axis), axis])


def _home(half: HalfValues, value: Value, axis: int) -> View:
    """A place for `value` with `axis` dense; gives it with `axis` last."""
    shape = half.shape(value)
    moved = [*(size for place, size in enumerate(shape) if place != axis), shape[axis]]
    assert value.op is not None
    made = contiguous(
        half.light(value.op.kind, product(moved), element_of(value.dtype)), tuple(moved)
    )
    back = [*range(axis), len(shape) - 1, *range(axis, len(shape) - 1)]
    half.views[value] = made.transposed(back)
    return made


def _softmax(half: HalfValues, scope: Scope, op: Softmax) -> None:
    x = half.view(scope, op.x, op)
    axis = op.axis % x.rank
    _known(x, axis, op)
    if axis == x.rank - 1:
        out = half.result(op.result, x)
    else:
        x, out = _last(x, axis), _home(half, op.result, axis)
    half.add(SoftmaxStage(x, out, half.prefill, op.safe))


def _top_k(half: HalfValues, scope: Scope, op: TopK) -> None:
    if not op.largest:
        raise Refused("HETC-E040", "the native engine finds the largest of rows only", op)
    x = half.view(scope, op.x, op)
    axis = op.axis % x.rank
    count = _known(x, axis, op)
    values, ids = (_home(half, value, axis) for value in op.results)
    _add_best(half, op, _last(x, axis), values, ids, count)


def _arg_max(half: HalfValues, scope: Scope, op: ArgMax) -> None:
    if isinstance(op, ArgMin):
        raise Refused("HETC-E040", "the native engine finds the largest of rows only", op)
    x = half.view(scope, op.x, op)
    axis = op.axis % x.rank
    rows = _last(x, axis)
    shape = (*rows.shape[:-1], 1)
    found, ids = (
        contiguous(half.light("argmax", product(shape), element), shape)
        for element in ("f32", "i64")
    )
    _add_best(half, op, rows, found, ids, _known(x, axis, op))
    half.views[op.result] = ids.transposed([*range(axis), x.rank - 1, *range(axis, x.rank - 1)])
    if not op.keepdim:
        half.views[op.result] = _without(half.views[op.result], axis)


def _add_best(half: HalfValues, op: Op, x: View, values: View, ids: View, count: int) -> None:
    if half.memory.element(x) != "f32":
        raise Refused("HETC-E041", "the native engine finds the largest of floats only", op)
    scratch = half.private("left", (1, count))
    half.add(TopKStage(x, values, ids, scratch, half.prefill))


def _without(view: View, axis: int) -> View:
    """`view` without an axis of one element."""
    shape, strides = (
        tuple(part for place, part in enumerate(parts) if place != axis)
        for parts in (view.shape, view.strides)
    )
    return replace(view, shape=shape, strides=strides)


def _reduction(half: HalfValues, scope: Scope, op: Any) -> None:
    x = half.view(scope, op.x, op)
    axis = op.axes[0] % x.rank
    if len(op.axes) != 1 or type(op) not in COMBINE:
        raise Refused("HETC-E040", f"the native engine has no form of {describe(op)}", op)
    count, stride = _known(x, axis, op), x.strides[axis]
    kept = x.sliced(axis, 0, 1)
    if not op.keepdim:
        kept = _without(kept, axis)
    out = half.result(op.result, contiguous("", half.shape(op.result)))
    rows, first = as_rows([out, kept])
    half.add(Reduction(first, rows, half.prefill, type(op), count, stride))


def _concat(half: HalfValues, scope: Scope, op: Concat) -> None:
    axis = op.axis % op.result.rank
    parts = [half.view(scope, part, op) for part in op.xs]
    shape = half.shape(op.result)
    models = [View("", shape, part.strides) for part in parts]
    out = half.result(op.result, next((model for model in models if model.has_rows), models[0]))
    start: DimLike = 0
    for part in parts:
        half.copy(part, out.sliced(axis, start, part.shape[axis]))
        start = start + part.shape[axis]


def _take_along(half: HalfValues, scope: Scope, op: TakeAlong) -> None:
    x, ids = half.view(scope, op.x, op), _indices(half, scope, op.ids, op)
    axis = op.axis % x.rank
    out = half.result(op.result, contiguous("", half.shape(op.result)))
    # Elements are found from the first along the axis.
    strides = tuple(0 if place == axis else stride for place, stride in enumerate(x.strides))
    first = replace(x, shape=ids.shape, strides=strides)
    half.add(TakeAlongStage(first, x.strides[axis], ids, out, half.prefill))


def _put_along(half: HalfValues, scope: Scope, op: PutAlong) -> None:
    if op.reduction != "none":
        raise Refused("HETC-E040", f"the native engine does not {op.reduction} by index", op)
    x, updates = half.view(scope, op.x, op), half.view(scope, op.updates, op)
    ids = _indices(half, scope, op.ids, op)
    axis = op.axis % x.rank
    _known(x, axis, op)
    _known(ids, axis, op)
    updates = _last(updates.broadcast(ids.shape), axis)
    out = _home(half, op.result, axis)
    half.add(PutAlongStage(_last(x, axis), _last(ids, axis), updates, out, half.prefill))


def _scan(half: HalfValues, scope: Scope, op: Scan) -> None:
    history, last = op.results
    axis = op.axis % op.x.rank
    shape = half.shape(history)
    others = [place for place in range(len(shape)) if place != axis]
    # Step after step, so that a step is laid out as the state is.
    moved = tuple(shape[place] for place in (axis, *others))
    element = element_of(history.dtype)
    made = contiguous(half.light("scan", product(moved), element), moved)
    half.views[history] = made.transposed([*range(1, axis + 1), 0, *range(axis + 1, len(shape))])
    half.views[last] = end = contiguous(half.light("scan", product(moved[1:]), element), moved[1:])
    x = half.view(scope, op.x, op)
    steps = [made.transposed([*range(1, len(shape)), 0]), _last(x, axis)]
    if isinstance(op.decay, Value):
        steps.append(_last(half.view(scope, op.decay, op), axis))
    apart = [view.strides[-1] for view in steps]
    held = [] if op.initial is None else [half.view(scope, op.initial, op)]
    first = [_without(view.sliced(len(others), 0, 1), len(others)) for view in steps]
    end, *views = as_rows([end, *first, *held])
    out, taken, *rates = (Along(view, far) for view, far in zip(views, apart, strict=False))
    decay = rates[0] if rates else op.decay
    assert isinstance(decay, Along | int | float)
    initial = views[-1] if held else None
    count = shape[axis]
    half.add(ScanStage(taken, decay, initial, out, end, count, half.prefill, op.maximum))


ROW_PLANS: Mapping[type[Op], Callable[[HalfValues, Scope, Any], None]] = {
    ArgMax: _arg_max,
    Concat: _concat,
    PutAlong: _put_along,
    Scan: _scan,
    Softmax: _softmax,
    TakeAlong: _take_along,
    TopK: _top_k,
    **dict.fromkeys((Mean, ReduceMax, ReduceMin, Sum), _reduction),
}
# Ops that say themselves which of their axes must have a known size.
ANY_ROWS = tuple(ROW_PLANS)
