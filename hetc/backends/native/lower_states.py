"""What attention reads: states that grow by rows, several of them side by side, and masks."""

from __future__ import annotations

from hetc.backends.native.model import Refused
from hetc.backends.native.scope import Scope
from hetc.backends.native.values import Appended, HalfValues, P, T
from hetc.backends.native.views import View, contiguous
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
        new = View(new.buffer, (batch, 1, tokens, width), strides, new.offset)
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
