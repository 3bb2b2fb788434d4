"""Attention and what it reads: masks, and states that grow by rows, several side by side."""

from __future__ import annotations

from dataclasses import replace

from hetc.backends.native.append import Append
from hetc.backends.native.attention import Rule
from hetc.backends.native.attention_stages import ByKeys, ByQueries, Combine
from hetc.backends.native.dot_attention import KEYS, LEVELS, QUERIES
from hetc.backends.native.model import Refused
from hetc.backends.native.scope import Scope
from hetc.backends.native.values import Appended, HalfValues, K, P, T
from hetc.backends.native.views import B, View, contiguous
from hetc.ir.dims import product
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.sequence import KVAppend
from hetc.ir.ops.shape import Concat, Reshape


def append(half: HalfValues, scope: Scope, op: KVAppend) -> None:
    """Remember the new rows of a state; attention writes them in the layout that it reads."""
    past, axis = op.past, op.axis % op.past.rank
    if past.op is not None or past.name not in scope.run.states or axis != past.rank - 2:
        raise Refused("HETC-E042", "the native engine appends rows [B,G,P,D] or [B,P,D] only", op)
    new = half.view(scope, op.new, op)
    if past.rank == 3:
        batch, tokens, width = new.shape
        strides = (new.strides[0], 0, *new.strides[1:])
        new = replace(new, shape=(batch, 1, tokens, width), strides=strides)
    half.appended[op.result] = (Appended(past, new),)


def is_rows_of_states(half: HalfValues, op: Op) -> bool:
    """Whether `op` is states side by side, or one looked at as rows [B,G,L,D]: attention can read
    its result as it reads a state."""
    parts = [half.appended.get(value, ()) for value in op.operands]
    shape = op.results[0].shape
    if not all(parts) or len(shape) != 4:
        return False
    batch, groups, _, width = shape
    rows = [(part.new.shape[1], part.new.shape[3]) for several in parts for part in several]
    match op:
        case Concat():
            same = op.axis % 4 == 3
        case Reshape():
            same = op.x.shape == (batch, shape[2], width)
        case _:
            return False
    if not same or any(size != groups for size, _ in rows):
        return False
    half.appended[op.results[0]] = tuple(part for several in parts for part in several)
    return True


def new_rows(half: HalfValues, value: Value) -> View:
    """The new rows of what attention reads as `value`."""
    parts = [part.new for part in half.appended[value]]
    if len(parts) == 1:
        return parts[0]
    batch, groups, tokens, _ = parts[0].shape
    width = sum(part.columns for part in parts)
    shape = (batch, groups, tokens, width)
    joined = contiguous(half.light("rows", product(shape)), shape)
    first = 0
    for part in parts:
        half.copy(part, joined.sliced(3, first, part.columns))
        first += part.columns
    return joined


def mask_of(half: HalfValues, scope: Scope, op: Attention, mask: Value) -> View:
    """A mask that positions alone make, as a table by [B, H, T, L]."""
    view = half.view(scope, mask, op)
    if scope.kind(mask) == "dynamic" or mask.shape[-1] != P + T:
        raise Refused("HETC-E042", "the native engine knows masks of positions only", op)
    batch, heads, tokens, _ = op.q.shape
    return view.broadcast((batch, heads, tokens, P + T))


def attention(half: HalfValues, scope: Scope, op: Attention) -> None:
    mask = None if op.mask is None else mask_of(half, scope, op, op.mask)
    if op.k not in half.appended or op.v not in half.appended:
        raise Refused("HETC-E042", "the native engine attends to its states only", op)
    states = half.memory.states
    formals = [tuple(part.state for part in half.appended[value]) for value in (op.k, op.v)]
    # Rows that several states share keep their type.
    is_own = all(len(parts) == 1 for parts in formals)
    rule = _rule(op, half.model.state_element if is_own else None)
    keys = states.keys(scope, formals[0], rule)
    values = states.values(scope, formals[1], rule)
    if not {op.k, op.v} <= half.written:
        half.written |= {op.k, op.v}
        new_keys, new_values = (new_rows(half, value) for value in (op.k, op.v))
        half.add(Append(rule, new_keys, new_values, keys, values, half.prefill))
    q = half.view(scope, op.q, op)
    if q.strides[-1] != 1:
        q = half.copied(q)
    slopes, sinks = (
        None if value is None else half.view(scope, value, op) for value in (op.slopes, op.sinks)
    )
    batch, heads, tokens, width = half.shape(op.result)
    row = heads * width
    model = View("", (batch, heads, tokens, width), (tokens * row, width, row, 1))
    out = half.result(op.result, model)
    if half.prefill:
        widths = (KEYS, rule.value_width, rule.padded_width, LEVELS)
        weights, sums, narrow, levels = (half.private("walk", (QUERIES, size)) for size in widths)
        own, tickets = (weights, sums, narrow, levels), half.memory.tickets(1)
        half.add(ByQueries(rule, q, keys, values, slopes, mask, sinks, out, *own, tickets))
        return
    scratch = half.private("weights", (8, 64))
    partial, levels = (
        contiguous(
            half.memory.shared(name, K * B * T * heads * size),
            (K, B, T, heads, size),
        )
        for name, size in (("partial", rule.value_width), ("levels", 2))
    )
    half.add(ByKeys(rule, q, keys, values, slopes, mask, partial, levels, scratch))
    half.add(Combine(rule, partial, levels, sinks, out, split=False))


def _rule(op: Attention, state_element: str | None) -> Rule:
    heads, groups = op.q.shape[1], op.k.shape[1]
    width, value_width = op.k.shape[3], op.v.shape[3]
    sizes = [size for size in (heads, groups, width, value_width) if isinstance(size, int)]
    assert len(sizes) == 4, "heads and their widths have known sizes"
    return Rule(
        sizes[1],
        sizes[0] // sizes[1],
        sizes[2],
        sizes[3],
        state_element or op.k.dtype.name,
        op.scale,
        op.softcap,
        op.causal,
        op.window,
        op.chunk,
    )
