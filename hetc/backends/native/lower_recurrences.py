"""Recurrences with a matrix as state: which stage they become."""

from __future__ import annotations

from hetc.backends.native.matrix_scans import Heads, MatrixScan
from hetc.backends.native.model import Refused
from hetc.backends.native.scope import Scope
from hetc.backends.native.storage import element_of
from hetc.backends.native.values import HalfValues
from hetc.backends.native.views import View, contiguous
from hetc.ir.dims import product
from hetc.ir.op import Value
from hetc.ir.ops.recurrence import LinearAttention


def linear_attention(half: HalfValues, scope: Scope, op: LinearAttention) -> None:
    rows, columns = op.results[1].shape[2:]
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise Refused("HETC-E045", "a state of a size unknown", op)
    for value in op.results:
        # All threads share the work, so that what they make is for all of them.
        shape = half.shape(value)
        buffer = half.memory.shared(op.kind, product(shape), element_of(value.dtype))
        half.views[value] = contiguous(buffer, shape)
    groups, repeats = op.q.shape[1], op.repeats

    def heads(value: Value, *axes: str) -> Heads:
        """A value of axes [B, H, ...]; `axes` names those behind."""
        view = half.views[value] if value in op.results else half.view(scope, value, op)
        if view.past_stride != 0:
            raise Refused("HETC-E044", "a recurrence reads positions", op)
        batch, head, *rest = view.strides
        # [B, G, R]: heads of a group share q and k.
        shared = value in (op.q, op.k)
        strides = (batch, head if shared else head * repeats, 0 if shared else head, 1)
        first = View(view.buffer, (view.shape[0], groups, repeats, 1), strides, view.offset)
        # An axis of one element is for all of the others.
        apart = {
            name: 0 if size == 1 and name == "row" else stride
            for name, size, stride in zip(axes, view.shape[2:], rest, strict=True)
        }
        return Heads(first, **apart)

    every, last = op.results
    half.add(
        MatrixScan(
            q=heads(op.q, "step", "row"),
            k=heads(op.k, "step", "row"),
            v=heads(op.v, "step", "column"),
            decay=heads(op.decay, "step", "row"),
            beta=None if op.beta is None else heads(op.beta, "step", "row"),
            initial=None if op.initial is None else heads(op.initial, "row", "column"),
            out=heads(every, "step", "column"),
            last=heads(last, "row", "column"),
            count=half.shape(every)[2],
            rows=rows,
            columns=columns,
        )
    )
