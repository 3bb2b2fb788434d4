"""Ops along the sequence, and the state that they carry."""

from __future__ import annotations

from hetc.backends.onnx.elements import computed
from hetc.backends.onnx.emitters.elementwise import operand
from hetc.backends.onnx.emitters.reduce import running_sum
from hetc.backends.onnx.emitters.shape import cut
from hetc.backends.onnx.table import Context, emits
from hetc.backends.onnx.writer import Body, Node
from hetc.ir.dims import Dim
from hetc.ir.op import Value
from hetc.ir.ops.sequence import Conv1dCausal, KeepLast, KVAppend, Scan
from hetc.ir.ops.shape import normalize_axis


@emits(KVAppend)
def kv_append(c: Context, op: KVAppend) -> str:
    # In the state's own type: what is kept is as narrow as the other half expects it, and what
    # attention reads has been rounded to it.
    axis, dtype = normalize_axis(op.axis, op.past.rank), op.past.dtype
    past, new = (c.w.store(c.w[value], dtype) for value in (op.past, op.new))
    return c.w.load(c.w.node("Concat", past, new, axis=axis), dtype)


@emits(KeepLast)
def keep_last(c: Context, op: KeepLast) -> str:
    axis, dtype = normalize_axis(op.axis, op.x.rank), op.x.dtype
    x = c.w.store(c.w[op.x], dtype)
    # A start before the first row is the first row.
    kept = cut(c, x, axis, -op.rows) if op.rows else cut(c, x, axis, 0, 0)
    return c.w.load(kept, dtype)


def _open_taps(op: Conv1dCausal) -> str | None:
    taps = op.weight.shape[2]
    return f"a kernel of {taps} taps" if isinstance(taps, Dim) else None


@emits(Conv1dCausal, kernels=("Conv",), refuse=_open_taps)
def conv1d_causal(c: Context, op: Conv1dCausal) -> str:
    taps = op.weight.shape[2]
    assert isinstance(taps, int)
    x = c.w[op.x]
    if op.history is not None:
        x = c.w.node("Concat", c.w[op.history], x, axis=2)
    inputs = [x, c.w[op.weight]]
    if op.bias is not None:
        inputs.append(c.w[op.bias])
    pads = (0 if op.history is not None else taps - 1, 0)
    return c.w.node("Conv", *inputs, group=op.groups, pads=pads)


@emits(Scan, kernels=("Mul", "Add", "CumSum"))
def scan(c: Context, op: Scan) -> tuple[str, str]:
    return _summed(c, op) if op.is_running_sum else _looped(c, op)


def _summed(c: Context, op: Scan) -> tuple[str, str]:
    # The kernel begins at zero: the sum so far stands before the first row, and is cut off again.
    axis = normalize_axis(op.axis, op.x.rank)
    place = c.w.ints([axis])
    x = c.w[op.x]
    if op.initial is not None:
        x = c.w.node("Concat", c.w.node("Unsqueeze", c.w[op.initial], place), x, axis=axis)
    sums = running_sum(c, x, axis, op.x.dtype)
    last = c.w.node("Squeeze", cut(c, sums, axis, -1), place)
    return cut(c, sums, axis, 0 if op.initial is None else 1), last


def _looped(c: Context, op: Scan) -> tuple[str, str]:
    axis, dtype = normalize_axis(op.axis, op.x.rank), computed(op.x.dtype)
    if op.initial is not None:
        first = c.w[op.initial]
    else:
        first = c.sizes.expand(c.w.constant(0, dtype), (), op.results[1].shape)
    rates = operand(c, op.decay, op.x.dtype)
    if not isinstance(op.decay, Value):
        rates = c.sizes.expand(rates, (), op.x.shape)
    state, x, decay = (c.w.fresh() for _ in range(3))
    kept, after, row = (c.w.fresh() for _ in range(3))
    body = Body(
        (
            Node("Add" if op.maximum else "Mul", (decay, state), (kept,)),
            Node("Max" if op.maximum else "Add", (kept, x), (after,)),
            Node("Identity", (after,), (row,)),
        ),
        ((state, dtype), (x, dtype), (decay, dtype)),
        ((after, dtype), (row, dtype)),
    )
    last, every = c.w.split(
        "Scan",
        first,
        c.w[op.x],
        rates,
        outputs=2,
        body=body,
        num_scan_inputs=2,
        scan_input_axes=(axis, axis),
        scan_output_axes=(axis,),
    )
    return every, last
