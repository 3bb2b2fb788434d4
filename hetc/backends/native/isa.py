"""What the text may count on: a CPU's instructions beyond what LLVM makes of portable vectors."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Isa:
    """`needs` are CPU features as Linux names them; `pause` is the op of a waiting loop.

    A product of many rows keeps `block_rows` x `block_tiles` sums of 16 lanes in registers. `dots`:
    it multiplies pairs of bf16 in one instruction, `byte_dots`: fours of bytes.
    """

    name: str
    needs: tuple[str, ...]
    pause: str
    block_rows: int
    block_tiles: int
    dots: bool = False
    byte_dots: bool = False


_PAUSE_X86 = 'llvm.call_intrinsic "llvm.x86.sse2.pause"() : () -> ()'
# The best first; every CPU can run the last. LLVM knows the CPU at hand by itself: it makes AVX2 or
# NEON code of the portable text.
VARIANTS = (
    Isa(
        "avx512bf16",
        ("avx512f", "avx512bw", "avx512_bf16", "avx512_vnni"),
        _PAUSE_X86,
        block_rows=8,
        block_tiles=3,
        dots=True,
        byte_dots=True,
    ),
    Isa(
        "avx512vnni",
        ("avx512f", "avx512bw", "avx512_vnni"),
        _PAUSE_X86,
        block_rows=8,
        block_tiles=3,
        byte_dots=True,
    ),
    Isa("avx512", ("avx512f", "avx512bw"), _PAUSE_X86, block_rows=8, block_tiles=3),
    Isa("portable", (), "", block_rows=4, block_tiles=1),
)
