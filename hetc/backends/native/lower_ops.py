"""Which op becomes which stage, or which view of its operand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hetc.backends.native.expressions import is_expression
from hetc.backends.native.lower_attention import append, attention, is_rows_of_states
from hetc.backends.native.lower_products import embedding, expert_linear, linear, matmul
from hetc.backends.native.lower_recurrences import linear_attention
from hetc.backends.native.lower_rows import ANY_ROWS, ROW_PLANS
from hetc.backends.native.model import Refused
from hetc.backends.native.scope import Scope
from hetc.backends.native.stages import Elementwise, Norm, Rotary
from hetc.backends.native.values import HalfValues
from hetc.backends.native.views import View, as_rows, contiguous
from hetc.errors import Reason
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention, Rope
from hetc.ir.ops.control import Call, describe
from hetc.ir.ops.elementwise import Cast
from hetc.ir.ops.index import Embedding, Gather
from hetc.ir.ops.linear import ExpertLinear, Linear, MatMul
from hetc.ir.ops.norm import LayerNorm, RMSNorm
from hetc.ir.ops.recurrence import LinearAttention
from hetc.ir.ops.sequence import KeepLast, KVAppend
from hetc.ir.ops.shape import Broadcast, Reshape, Slice, Split, Transpose
from hetc.ir.ops.source import Source
from hetc.ir.types import BF16, BOOL, F16, F32, I32, I64

COMPUTED = (F32, BF16, F16, I32, I64, BOOL)
# Ops whose result is their operand, looked at in another way.
LOOKS = (Broadcast, Cast, Gather, KeepLast, KVAppend, Reshape, Slice, Split, Transpose)


def plan_op(half: HalfValues, scope: Scope, op: Op, inside: frozenset[Op]) -> None:
    for value in (*op.operands, *op.results):
        if value.dtype not in COMPUTED:
            raise Refused("HETC-E041", f"the native engine computes no {value.dtype}", op)
    if is_rows_of_states(half, op):
        return
    if is_expression(op) and not _is_look(op):
        _elementwise(half, scope, op, inside)
        return
    result = op.results[0]
    if not isinstance(op, (*LOOKS, *ANY_ROWS)) and not (
        result.rank and isinstance(result.shape[-1], int)
    ):
        raise Refused("HETC-E045", f"rows of {result.type} are of no known size", op)
    make = PLANS.get(type(op))
    if make is None:
        raise Refused("HETC-E040", f"the native engine has no form of {describe(op)}", op)
    make(half, scope, op)


def _elementwise(half: HalfValues, scope: Scope, op: Op, inside: frozenset[Op]) -> None:
    shape = half.shape(op.result)
    read, used = leaves(op, inside)
    views = [half.view(scope, value, op) for value in read]
    whole = [view for view in views if view.shape == shape]
    out = half.result(op.result, whole[0] if whole else contiguous("", shape))
    out, *views = as_rows([out, *(view.broadcast(shape) for view in views)])
    operands = dict(zip(read, views, strict=True))
    half.add(Elementwise(op, operands, used, out, half.prefill))


def _is_look(op: Op) -> bool:
    """Whether a cast changes nothing: floats are f32 while the code runs, whatever they are."""
    return isinstance(op, Cast) and op.x.dtype.is_float and op.result.dtype.is_float


def _alias(half: HalfValues, scope: Scope, op: Any) -> None:
    """Ops that only look at their operand in another way."""
    x = half.view(scope, op.operands[0], op)
    match op:
        case Cast():
            views: tuple[View | None, ...] = (x,)
        case Transpose():
            views = (x.transposed(op.perm),)
        case Broadcast():
            views = (x.broadcast(half.shape(op.result)),)
        case Slice():
            axis = op.axis % x.rank
            size = half.shape(op.result)[axis]
            views = (x.sliced(axis, op.start, size, op.step),)
        case Split():
            axis = op.axis % x.rank
            starts = [sum(op.sizes[:place]) for place in range(len(op.sizes))]
            views = tuple(
                x.sliced(axis, start, size) for start, size in zip(starts, op.sizes, strict=True)
            )
        case Reshape():
            shape = half.shape(op.result)
            views = (x.reshaped(shape) or half.copied(x).reshaped(shape),)
        case _:
            raise Refused("HETC-E040", f"the native engine has no form of {describe(op)}", op)
    for value, view in zip(op.results, views, strict=True):
        assert view is not None, "a dense copy has every shape"
        half.views[value] = view


def _gather(half: HalfValues, scope: Scope, op: Gather) -> None:
    """Slices at known, evenly spaced places are a view."""
    x, axis = half.view(scope, op.x, op), op.axis % op.x.rank
    size = op.x.shape[axis]
    if scope.kind(op.ids) != "static" or op.ids.rank != 1 or not isinstance(size, int):
        raise Refused("HETC-E040", "the native engine gathers at constant places only", op)
    ids = scope.evaluate(op.ids, 0, _no_weights, {}) % size
    steps = set(np.diff(ids).tolist())
    if len(steps) > 1 or min(steps, default=1) < 1:
        raise Refused("HETC-E040", "the native engine gathers evenly spaced places only", op)
    step = steps.pop() if steps else 1
    half.views[op.result] = x.sliced(axis, int(ids[0]), len(ids), step)


def _norm(half: HalfValues, scope: Scope, op: RMSNorm | LayerNorm) -> None:
    x = half.view(scope, op.x, op)
    weight = None if op.weight is None else half.view(scope, op.weight, op)
    bias, offset = None, 0.0
    if isinstance(op, LayerNorm):
        bias = None if op.bias is None else half.view(scope, op.bias, op)
    else:
        offset = op.offset
    out = half.result(op.result, x)
    centred = isinstance(op, LayerNorm)
    half.add(Norm(x, weight, bias, out, op.eps, offset, centred, half.prefill))


def _rope(half: HalfValues, scope: Scope, op: Rope) -> None:
    x, cos, sin = (half.view(scope, value, op) for value in (op.x, op.cos, op.sin))
    out = half.result(op.result, x)
    half.add(Rotary(x, cos, sin, out, op.interleaved, half.prefill))


PLANS: Mapping[type[Op], Callable[[HalfValues, Scope, Any], None]] = {
    Attention: attention,
    Broadcast: _alias,
    Cast: _alias,
    Embedding: embedding,
    ExpertLinear: expert_linear,
    Gather: _gather,
    KVAppend: append,
    KeepLast: lambda half, scope, op: None,
    LayerNorm: _norm,
    Linear: linear,
    LinearAttention: linear_attention,
    MatMul: matmul,
    RMSNorm: _norm,
    Reshape: _alias,
    Rope: _rope,
    Slice: _alias,
    Split: _alias,
    Transpose: _alias,
    **ROW_PLANS,
}


def supports(op: Op) -> Reason | None:
    """Why the engine has no form of `op` where its result is not known before it runs."""
    if isinstance(op, Call | Source) or type(op) in PLANS or is_expression(op):
        return None
    return Reason("HETC-E040", f"the native engine has no form of {describe(op)}", at=op.loc)


def leaves(op: Op, inside: frozenset[Op]) -> tuple[list[Value], frozenset[Op]]:
    """What the expression of `op` loads, and the ops that are computed inside of it."""
    read: dict[Value, None] = {}
    used: set[Op] = set()
    stack = list(op.operands)
    while stack:
        value = stack.pop()
        if value.op in inside:
            used.add(value.op)
            stack.extend(value.op.operands)
        else:
            read[value] = None
    return list(read), frozenset(used)


def _no_weights(name: str) -> Any:
    raise AssertionError(f"constant places do not depend on the weight {name}")
