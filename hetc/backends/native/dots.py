"""Dot products of short rows in each lane, in the instructions of every kind of CPU.

Vectors have 16 lanes of sums, however many the instruction has: narrower ones are taken in parts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hetc.backends.native.ssa import Emitter, Ssa, vector

Dot = Callable[[Emitter, Ssa, Ssa, Ssa], Ssa]


def byte_dot(e: Emitter, sum: Ssa, unsigned: Ssa, signed: Ssa) -> Ssa:
    """`sum` i32 [16] plus, in each lane, the products of 4 unsigned and 4 signed i8 of [64]."""
    return _BYTE_DOTS[e.isa.byte_dots](e, sum, unsigned, signed)


def pair_dot(e: Emitter, sum: Ssa, x: Ssa, y: Ssa) -> Ssa:
    """`sum` f32 [16] plus, in each lane, the products of 2 and 2 bf16 of [32]."""
    return _PAIR_DOTS[e.isa.pair_dots](e, sum, x, y)


def call(name: str, e: Emitter, *operands: Ssa, type: str = "") -> Ssa:
    """An intrinsic that gives `type`, that of its first operand unless said."""
    names = ", ".join(operand.name for operand in operands)
    types = ", ".join(operand.type for operand in operands)
    given = type or operands[0].type
    return e.op(f'llvm.call_intrinsic "llvm.{name}"({names}) : ({types}) -> {given}', given)


def in_parts(count: int, dot: Dot, e: Emitter, sum: Ssa, *factors: Ssa) -> Ssa:
    """`dot` on so many parts of every operand, one after the other."""
    whole, lanes = sum, sum.lanes // count
    for part in range(count):
        made = dot(e, *(_part(e, x, part, count) for x in (sum, *factors)))
        place = f"{{offsets = [{part * lanes}], strides = [1]}}"
        types = f"{made.type} into {whole.type}"
        text = f"vector.insert_strided_slice {made.name}, {whole.name} {place} : {types}"
        whole = e.op(text, whole.type)
    return whole


def _part(e: Emitter, x: Ssa, part: int, count: int) -> Ssa:
    lanes = x.lanes // count
    type = vector(lanes, x.element)
    place = f"{{offsets = [{part * lanes}], sizes = [{lanes}], strides = [1]}}"
    return e.op(f"vector.extract_strided_slice {x.name} {place} : {x.type} to {type}", type)


def _bitcast(e: Emitter, x: Ssa, type: str) -> Ssa:
    return e.op(f"llvm.bitcast {x.name} : {x.type} to {type}", type)


def _pmaddwd(e: Emitter, sum: Ssa, unsigned: Ssa, signed: Ssa) -> Ssa:
    """By products of 16 bits: `vpmaddubsw` would be one step, and saturates."""
    words = vector(2 * sum.lanes, "i16")
    eight = e.constant("8", words)
    u, s = _bitcast(e, unsigned, words), _bitcast(e, signed, words)
    low = e.arith("andi", u, e.constant("255", words)), e.arith("shli", s, eight)
    even = low[0], e.arith("shrsi", low[1], eight)
    odd = e.arith("shrui", u, eight), e.arith("shrsi", s, eight)
    for pair in (even, odd):
        sum = e.add(sum, call("x86.avx2.pmadd.wd", e, *pair, type=sum.type))
    return sum


def _sdot(e: Emitter, sum: Ssa, unsigned: Ssa, signed: Ssa) -> Ssa:
    """Both signed: u * s = (u - 128) * s + 128 * s, and 128 is 64 + 64."""
    less = e.arith("xori", unsigned, e.constant("-128", unsigned.type))
    name = "aarch64.neon.sdot.v4i32.v16i8"
    # It depends on x alone: for several outputs of one x it is made once.
    shift = call(name, e, e.constant("0", sum.type), e.constant("64", signed.type), signed)
    return e.add(call(name, e, sum, less, signed), e.add(shift, shift))


_BYTE_DOTS: dict[str, Callable[..., Ssa]] = {
    "vpdpbusd512": partial(call, "x86.avx512.vpdpbusd.512"),
    "vpdpbusd256": partial(in_parts, 2, partial(call, "x86.avx512.vpdpbusd.256")),
    "pmaddwd": partial(in_parts, 2, _pmaddwd),
    "usdot": partial(in_parts, 4, partial(call, "aarch64.neon.usdot.v4i32.v16i8")),
    "sdot": partial(in_parts, 4, _sdot),
}
_PAIR_DOTS: dict[str, Callable[..., Ssa]] = {
    "dpbf16ps": partial(call, "x86.avx512bf16.dpbf16ps.512"),
    "bfdot": partial(in_parts, 4, partial(call, "aarch64.neon.bfdot.v4f32.v8bf16")),
}
