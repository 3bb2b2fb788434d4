"""Instances of reductions, matrix products, norms, attention and what runs along the sequence."""

from __future__ import annotations

from typing import Any

import numpy as np

from hetc.ir.types import BF16, BOOL, F16, F32, F64, I8, I16, I32, I64, U8
from tests.backends.cases import FLOATS, B, Draw, S, Shape, case


@case("sum", "mean", "prod", "reduce_max", "reduce_min", "any", "all")
def reduce(draw: Draw, op: Any) -> Any:
    types = {"mean": FLOATS, "any": (BOOL, F32, I64), "all": (BOOL, F32, I64)}
    x = draw.x((B, S, 4), draw.pick(*types.get(op.kind, (F32, F64, BF16, I64, I32, I8, I16))))
    return op(x, draw.pick((1,), (-1,), (0, 2), ()), draw.pick(True, False))


@case("logsumexp")
def logsumexp(draw: Draw, op: Any) -> Any:
    x = draw.x((B, S, 4), draw.pick(*FLOATS), -90, 90)
    if draw.upto(0, 1):
        draw.arrays[0][0] = -np.inf
    return op(x, draw.pick((-1,), (1, 2), ()), draw.pick(True, False))


@case("argmax", "argmin", "cumsum")
def along(draw: Draw, op: Any) -> Any:
    x = draw.x((B, S, 4), draw.pick(F32, F64, BF16, I64, I32, I16, U8))
    return op(x, draw.pick(0, 1, -1))


@case("cumsum")
def count(draw: Draw, op: Any) -> Any:
    return op(draw.x((B, S), BOOL), 1)


@case("softmax", "log_softmax")
def softmax(draw: Draw, op: Any) -> Any:
    x = draw.x((B, S, 4), draw.pick(*FLOATS), -9, 9)
    if op.kind == "log_softmax":
        return op(x, draw.pick(1, -1, 2))
    if draw.upto(0, 1):
        draw.arrays[0][0] = -np.inf
    return op(x, draw.pick(1, -1, 2), safe=draw.pick(False, True))


@case("matmul")
def matmul(draw: Draw, op: Any) -> Any:
    dtype = draw.pick(F32, F64, BF16, I64, I32)
    left, right = draw.pick(
        ((S, 4), (4, 3)), ((B, 2, S, 4), (B, 2, 4, S)), ((B, S, 4), (4, 5)), ((1, S, S), (B, S, 3))
    )
    return op(draw.x(left, dtype), draw.x(right, dtype))


@case("linear")
def linear(draw: Draw, op: Any) -> Any:
    dtype = draw.pick(F32, F64, BF16, F16)
    x = draw.x(draw.pick((B, S, 8), (S, 8), (8,)), dtype)
    bias = draw.pick(None, draw.x((5,), dtype))
    return op(x, draw.x((5, 8), dtype), bias)


@case("expert_linear")
def expert_linear(draw: Draw, op: Any) -> Any:
    dtype, turned = draw.pick(F32, BF16), draw.pick(True, False)
    weight = draw.x((3, 8, 5) if turned else (3, 5, 8), dtype)
    bias = draw.pick(None, draw.x((3, 5), dtype))
    return op(draw.x((B * S, 8), dtype), weight, draw.ids((B * S,), 3), bias, turned)


@case("rms_norm")
def rms_norm(draw: Draw, op: Any) -> Any:
    dtype = draw.pick(*FLOATS)
    weight = draw.pick(None, draw.x((8,), dtype))
    return op(draw.x((B, S, 8), dtype), weight, 1e-5, draw.pick(0.0, 1.0))


@case("layer_norm")
def layer_norm(draw: Draw, op: Any) -> Any:
    dtype = draw.pick(*FLOATS)
    scale = (draw.pick(None, draw.x((8,), dtype)), draw.pick(None, draw.x((8,), dtype)))
    return op(draw.x((B, S, 8), dtype), *scale, 1e-5)


@case("rope")
def rope(draw: Draw, op: Any) -> Any:
    dtype, width = draw.pick(*FLOATS), draw.pick(8, 6, 2)
    shape = draw.pick((S, width), (B, 1, S, width))
    return op(
        draw.x((B, 3, S, 8), dtype),
        draw.x(shape, dtype, -1, 1),
        draw.x(shape, dtype, -1, 1),
        draw.pick(True, False),
    )


@case("attention")
def attention(draw: Draw, op: Any) -> Any:
    groups, repeat = draw.pick((1, 1), (2, 1), (2, 3), (1, 4))
    heads, length = groups * repeat, draw.pick(S, S, S + 2, 7 * S)
    rows = draw.pick(S, 1)
    dtype = draw.pick(F32, F32, F64, BF16)
    options: dict[str, Any] = {"causal": draw.pick(True, False), "scale": draw.pick(1.0, 0.3)}
    kind = draw.pick("plain", "mask", "sinks", "slopes", "softcap", "window", "chunk")
    q = draw.x((B, heads, rows, 4), dtype)
    k, v = (
        draw.x((B, groups, length, 4), dtype),
        draw.x((B, groups, length, draw.pick(4, 5)), dtype),
    )
    if kind == "mask":
        shape = draw.pick((rows, length), (B, 1, rows, length), (1, heads, rows, length))
        shape = draw.pick(shape, (B, 1, 1, length))
        options["mask"] = draw.x(shape, draw.pick(BOOL, dtype, F32))
    elif kind in ("sinks", "slopes"):
        options[kind] = draw.x((heads,), dtype)
    elif kind == "softcap":
        options[kind] = 2.0
    elif kind in ("window", "chunk"):
        options |= {kind: draw.upto(1, 4), "causal": True}
    return op(q, k, v, **options)


@case("kv_append")
def kv_append(draw: Draw, op: Any) -> Any:
    dtype = draw.pick(F32, BF16)
    return op(draw.x((B, 2, 3, 4), dtype), draw.x((B, 2, S, 4), dtype), draw.pick(2, -2))


@case("keep_last")
def keep_last(draw: Draw, op: Any) -> Any:
    return op(draw.x((B, S, 4), draw.pick(F32, BF16, I64)), 1, draw.upto(0, 8))


@case("conv1d_causal")
def conv(draw: Draw, op: Any) -> Any:
    dtype, groups, taps = draw.pick(F32, BF16), draw.pick(1, 2, 4), draw.upto(1, 4)
    x, weight = draw.x((B, 4, S), dtype), draw.x((8, 4 // groups, taps), dtype)
    bias = draw.pick(None, draw.x((8,), dtype))
    history = draw.pick(None, draw.x((B, 4, taps - 1), dtype))
    return op(x, weight, bias, history, groups)


@case("scan")
def scan(draw: Draw, op: Any) -> Any:
    dtype, axis = draw.pick(F32, F64, BF16), draw.pick(1, 2, -2)
    shape: Shape = (B, S, 3, 2)
    rest: Shape = tuple(dim for at, dim in enumerate(shape) if at != axis % 4)
    initial = draw.pick(None, draw.x(rest, dtype))
    decay = draw.pick(draw.x(shape, dtype, 0, 1), 0.5)
    return op(draw.x(shape, dtype), decay, initial, axis, draw.pick(False, True))


@case("scan")
def running_sum(draw: Draw, op: Any) -> Any:
    dtype, axis = draw.pick(F32, F64, I64, I32, I16, I8, U8), draw.pick(0, 1, -1)
    shape: Shape = (B, S, 4)
    rest: Shape = tuple(dim for at, dim in enumerate(shape) if at != axis % 3)
    # Far enough for the narrow integers to wrap.
    initial = draw.pick(None, draw.x(rest, dtype, 0, 99))
    return op(draw.x(shape, dtype, 0, 99), 1, initial, axis)


@case("scan")
def decayed_integers(draw: Draw, op: Any) -> Any:
    dtype = draw.pick(I64, I32, I16, I8, U8)
    decay = draw.pick(draw.x((B, S, 4), dtype, 0, 3), 2)
    return op(draw.x((B, S, 4), dtype), decay, draw.pick(None, draw.x((B, 4), dtype)))


@case("linear_attention")
def linear_attention(draw: Draw, op: Any) -> Any:
    dtype, groups, repeats = draw.pick(F32, BF16), draw.pick(1, 2), draw.pick(1, 3)
    heads = groups * repeats
    q, k = draw.x((B, groups, S, 5), dtype), draw.x((B, groups, S, 5), dtype)
    v, decay = draw.x((B, heads, S, 3), dtype), draw.x((B, heads, S, draw.pick(1, 5)), dtype, 0, 1)
    beta = draw.pick(None, draw.x((B, heads, S, 1), dtype, 0, 0.2))
    return op(q, k, v, decay, beta, draw.pick(None, draw.x((B, heads, 5, 3), dtype)))


@case("quantize")
def quantize(draw: Draw, op: Any) -> Any:
    x = draw.x((B, S, 8), draw.pick(F32, BF16), -200, 200)
    return op(x, draw.x((B, S, 2), F32, 0.5, 2), 4, draw.pick(I8, U8))


@case("dequantize")
def dequantize(draw: Draw, op: Any) -> Any:
    scale = draw.x((B, S, 2), draw.pick(F32, BF16, F16))
    zero = draw.pick(None, draw.x((B, S, 2), I8, 0, 9))
    shift = draw.pick(None, draw.x((B, S, 2), draw.pick(F32, F16)))
    return op(draw.x((B, S, 8), I8, -9, 9), scale, zero, shift, 4, draw.pick(F32, BF16))


@case("unpack4")
def unpack4(draw: Draw, op: Any) -> Any:
    return op(draw.x((B, S, 4), U8, 0, 255), draw.pick(U8, I8))


@case("transfer")
def transfer(draw: Draw, op: Any) -> Any:
    return op(draw.x((B, S)), "h200", "sn40l")


@case("all_reduce")
def all_reduce(draw: Draw, op: Any) -> Any:
    return op(draw.x((B, S)), 1)


@case("all_gather", "take_part")
def along_one_shard(draw: Draw, op: Any) -> Any:
    return op(draw.x((B, 4)), 1, 1)
