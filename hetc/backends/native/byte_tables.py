"""64 bytes chosen at once from a table of 16, in the instructions of every kind of CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hetc.backends.native.dots import call, in_parts
from hetc.backends.native.ssa import Emitter, Ssa, vector

_TABLE, _BYTES = 16, 64


def spread(e: Emitter, place: Ssa) -> Ssa:
    """The 16 bytes at `place`, four times in one vector: instructions know a table for 16 bytes."""
    table = e.load(place, vector(_TABLE, "i8"))
    return e.shuffle(table, table, [byte % _TABLE for byte in range(_BYTES)])


def choose(e: Emitter, table: Ssa, numbers: Ssa) -> Ssa:
    """The bytes of `table`, as `spread` gives it, that `numbers` i8 [64] say; any byte where a
    number is not below 16."""
    return _CHOOSE[e.isa.base](e, table, numbers)


def _bit_by_bit(e: Emitter, table: Ssa, numbers: Ssa) -> Ssa:
    """Of every two entries one, then of these."""
    left = [e.shuffle(table, table, [entry] * _BYTES) for entry in range(_TABLE)]
    for bit in (1, 2, 4, 8):
        masked = e.arith("andi", numbers, e.constant(str(bit), numbers.type))
        is_set = e.compare("ne", masked, e.constant("0", numbers.type))
        left = [e.select(is_set, y, x) for x, y in zip(left[::2], left[1::2], strict=True)]
    return left[0]


_CHOOSE: dict[str, Callable[[Emitter, Ssa, Ssa], Ssa]] = {
    "avx512": partial(call, "x86.avx512.pshuf.b.512"),
    "avx2": partial(in_parts, 2, partial(call, "x86.avx2.pshuf.b")),
    "neon": partial(in_parts, 4, partial(call, "aarch64.neon.tbl1.v16i8")),
    "portable": _bit_by_bit,
}
