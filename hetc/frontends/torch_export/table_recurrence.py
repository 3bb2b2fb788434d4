"""hetc's own torch ops, which stand for recurrences: see `hetc.frontends.recurrences`."""

from __future__ import annotations

from hetc.frontends.torch_export.context import Context
from hetc.frontends.torch_export.registry import aten
from hetc.ir.op import Value
from hetc.ir.ops.recurrence import LinearAttention
from hetc.ir.ops.sequence import Scan


@aten("hetc.linear_attention.default")
def linear_attention(
    ctx: Context,
    q: Value,
    k: Value,
    v: Value,
    decay: Value,
    beta: Value | None = None,
    initial: Value | None = None,
) -> tuple[Value, ...]:
    return ctx.ops(LinearAttention, q, k, v, decay, beta, initial)


@aten("hetc.scan.default")
def scan(
    ctx: Context,
    x: Value,
    decay: Value,
    initial: Value | None = None,
    axis: int = 1,
    maximum: bool = False,
) -> tuple[Value, ...]:
    return ctx.ops(Scan, x, decay, initial, axis=axis, maximum=maximum)
