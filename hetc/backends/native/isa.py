"""What the text may count on: a CPU's instructions beyond what LLVM makes of portable vectors."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Isa:
    """`needs` are CPU features as Linux names them; `pause` is the op of a waiting loop.

    A product of many rows keeps `block_rows` x `block_tiles` sums of 16 lanes in registers; one of
    few rows has `sums_in_flight` (a power of two), so that no addition waits for the one before.
    `pair_dots` and `byte_dots`: the way in which it multiplies pairs of bf16, and fours of bytes
    (`dots.py`), empty for none. `base`: what variants have in common but for these. `target`:
    LLVM's CPU and feature where code is not to use all that the CPU at hand has.
    """

    name: str
    base: str
    needs: tuple[str, ...]
    pause: str
    block_rows: int
    block_tiles: int
    sums_in_flight: int = 8
    pair_dots: str = ""
    byte_dots: str = ""
    target: tuple[str, str] | None = None

    @property
    def dots(self) -> bool:
        """Whether it multiplies pairs of bf16 in one instruction."""
        return bool(self.pair_dots)

    @property
    def byte_dots_of_many(self) -> bool:
        """Whether it multiplies bytes where many rows share what a matrix is widened to: in steps
        of 16 bits that takes 2.2 times as long as f32 (measured)."""
        return self.byte_dots not in ("", "pmaddwd")


_PAUSE_X86 = 'llvm.call_intrinsic "llvm.x86.sse2.pause"() : () -> ()'
_PAUSE_ARM = (
    '%yield = arith.constant 1 : i32\nllvm.call_intrinsic "llvm.aarch64.hint"(%yield) : (i32) -> ()'
)
_AVX512 = ("avx512f", "avx512bw")
# What LLVM's x86-64-v3 may use.
_AVX2 = ("avx2", "fma", "f16c", "bmi1", "bmi2", "movbe", "abm")
PORTABLE = Isa("portable", "portable", (), "", block_rows=4, block_tiles=1, sums_in_flight=4)
# The best first; every CPU can run the last, of which LLVM makes the best that it knows.
VARIANTS = (
    Isa(
        "avx512bf16",
        "avx512",
        (*_AVX512, "avx512_bf16", "avx512_vnni"),
        _PAUSE_X86,
        block_rows=8,
        block_tiles=3,
        pair_dots="dpbf16ps",
        byte_dots="vpdpbusd512",
    ),
    Isa(
        "avx512vnni",
        "avx512",
        (*_AVX512, "avx512_vnni"),
        _PAUSE_X86,
        block_rows=8,
        block_tiles=3,
        byte_dots="vpdpbusd512",
    ),
    Isa("avx512", "avx512", _AVX512, _PAUSE_X86, block_rows=8, block_tiles=3),
    Isa(
        "avxvnni",
        "avx2",
        (*_AVX2, "avx_vnni"),
        _PAUSE_X86,
        block_rows=5,
        block_tiles=1,
        sums_in_flight=4,
        byte_dots="vpdpbusd256",
        target=("x86-64-v3", "+avxvnni"),
    ),
    # 16 registers of 8 lanes: 5 sums, which take two each, the weights, and x.
    Isa(
        "avx2",
        "avx2",
        _AVX2,
        _PAUSE_X86,
        block_rows=5,
        block_tiles=1,
        sums_in_flight=4,
        byte_dots="pmaddwd",
        target=("x86-64-v3", "+avx2"),
    ),
    # 32 registers of 4 lanes: 6 sums, which take four each, the weights, and x.
    Isa(
        "neonbf16",
        "neon",
        ("asimddp", "i8mm", "bf16"),
        _PAUSE_ARM,
        block_rows=6,
        block_tiles=1,
        sums_in_flight=4,
        pair_dots="bfdot",
        byte_dots="usdot",
    ),
    Isa(
        "neon",
        "neon",
        ("asimddp",),
        _PAUSE_ARM,
        block_rows=6,
        block_tiles=1,
        sums_in_flight=4,
        byte_dots="sdot",
    ),
    PORTABLE,
)
