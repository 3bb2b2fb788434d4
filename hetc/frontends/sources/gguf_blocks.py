"""The integers and scales inside GGUF's blocks, as the file has them.

A row of a quantized tensor is a row of blocks. Here each block is taken apart into the codes of its
elements and the numbers of its groups, so that `code * scale + shift` in f32 is what the `gguf`
package dequantizes, bit for bit. Layouts: ggml-common.h of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hetc.frontends.sources.model_source import Array
from hetc.ir.types import F16, F32, I8, U8, DType


@dataclass(frozen=True)
class BlockLayout:
    """How one block is taken apart: `elements` in groups of `group`, with codes of `bits` bits.

    The functions take blocks u8[n, bytes]. `codes` gives i8 or u8 [n, elements] as `dtype` says,
    `scale` and `shift` numbers [n, elements/group] of the type `numbers`: f16 where the file has
    them, f32 where it has factors of them, whose product f32 holds exactly.
    """

    elements: int
    group: int
    bits: int
    dtype: DType
    numbers: DType
    codes: Callable[[Array], Array]
    scale: Callable[[Array], Array]
    shift: Callable[[Array], Array] | None = None


def _f16(blocks: Array, place: int) -> Array:
    """The f16 at byte `place` of each block: f16[n, 1]."""
    return np.ascontiguousarray(blocks[:, place : place + 2]).view(np.float16)


def _f16_at(place: int) -> Callable[[Array], Array]:
    return lambda blocks: _f16(blocks, place)


def _fields(stored: Array, width: int, bits: int) -> Array:
    """Runs of `width` bytes, each holding 8/bits runs of elements one above the other in its bits,
    as u8 elements in order."""
    runs = stored.reshape(len(stored), -1, 1, width)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    fields: Array = runs >> shifts & np.uint8(2**bits - 1)
    return fields.reshape(len(stored), -1)


def _signed(codes: Array, middle: int) -> Array:
    signed: Array = codes.astype(np.int8) - np.int8(middle)
    return signed


def _fifth_bits(blocks: Array, place: int) -> Array:
    """The upper bit of 32 elements of 5 bits, from four bytes at `place`."""
    bits: Array = np.unpackbits(blocks[:, place : place + 4], axis=1, bitorder="little")
    return bits << np.uint8(4)


def _six_bits(blocks: Array) -> tuple[Array, Array]:
    """The 8 scales and 8 minima of 6 bits that follow two f16 in a K-block: u8[n, 8] each.

    Of bytes 0 to 3 and 4 to 7 the lower six bits are the first four scales and minima; of the other
    four, the lower four bits are in the halves of bytes 8 to 11, the upper two at the top of these.
    """
    first, second, third = (blocks[:, at : at + 4] for at in (4, 8, 12))
    scales = np.concatenate([first & 63, third & 15 | first >> 6 << 4], axis=1)
    minima = np.concatenate([second & 63, third >> 4 | second >> 6 << 4], axis=1)
    return scales, minima


def _times(blocks: Array, place: int, factors: Array) -> Array:
    """The f16 at `place` times integers of 8 bits at most: exact in f32."""
    return _f16(blocks, place).astype(np.float32) * factors.astype(np.float32)


def _k_scale(blocks: Array) -> Array:
    return _times(blocks, 0, _six_bits(blocks)[0])


def _k_shift(blocks: Array) -> Array:
    return -_times(blocks, 2, _six_bits(blocks)[1])


def _q3_k_codes(blocks: Array) -> Array:
    codes: Array = _fields(blocks[:, 32:96], 32, 2) | _fields(blocks[:, :32], 32, 1) << np.uint8(2)
    return _signed(codes, 4)


def _q3_k_scale(blocks: Array) -> Array:
    # 16 scales of 6 bits: the lower four bits in the halves of 8 bytes, the upper two in 4 more.
    lower, upper = _fields(blocks[:, 96:104], 8, 4), _fields(blocks[:, 104:108], 4, 2)
    scales: Array = lower | upper << np.uint8(4)
    return _times(blocks, 108, _signed(scales, 32))


def _q5_k_codes(blocks: Array) -> Array:
    # Bit j of 32 bytes is the fifth bit of the elements of group j.
    codes: Array = _fields(blocks[:, 48:], 32, 4) | _fields(blocks[:, 16:48], 32, 1) << np.uint8(4)
    return codes


def _q6_k_codes(blocks: Array) -> Array:
    lower, upper = _fields(blocks[:, :128], 64, 4), _fields(blocks[:, 128:192], 32, 2)
    codes: Array = lower | upper << np.uint8(4)
    return _signed(codes, 32)


LAYOUTS: dict[str, BlockLayout] = {
    "Q4_0": BlockLayout(
        32, 32, 4, I8, F16, lambda b: _signed(_fields(b[:, 2:], 16, 4), 8), _f16_at(0)
    ),
    "Q4_1": BlockLayout(
        32, 32, 4, U8, F16, lambda b: _fields(b[:, 4:], 16, 4), _f16_at(0), _f16_at(2)
    ),
    "Q5_0": BlockLayout(
        32,
        32,
        8,
        I8,
        F16,
        lambda b: _signed(_fields(b[:, 6:], 16, 4) | _fifth_bits(b, 2), 16),
        _f16_at(0),
    ),
    "Q5_1": BlockLayout(
        32,
        32,
        8,
        U8,
        F16,
        lambda b: _fields(b[:, 8:], 16, 4) | _fifth_bits(b, 4),
        _f16_at(0),
        _f16_at(2),
    ),
    "Q8_0": BlockLayout(32, 32, 8, I8, F16, lambda b: b[:, 2:].view(np.int8), _f16_at(0)),
    "Q2_K": BlockLayout(
        256,
        16,
        4,
        U8,
        F32,
        lambda b: _fields(b[:, 16:80], 32, 2),
        lambda b: _times(b, 80, b[:, :16] & 15),
        lambda b: -_times(b, 82, b[:, :16] >> 4),
    ),
    "Q3_K": BlockLayout(256, 16, 4, I8, F32, _q3_k_codes, _q3_k_scale),
    "Q4_K": BlockLayout(
        256, 32, 4, U8, F32, lambda b: _fields(b[:, 16:], 32, 4), _k_scale, _k_shift
    ),
    "Q5_K": BlockLayout(256, 32, 8, U8, F32, _q5_k_codes, _k_scale, _k_shift),
    "Q6_K": BlockLayout(
        256,
        16,
        8,
        I8,
        F32,
        _q6_k_codes,
        lambda b: _times(b, 208, b[:, 192:208].view(np.int8)),
    ),
}


def packed4(codes: Array) -> Array:
    """Codes [..., K] of 4 bits, two in a byte, the low half first: u8[..., K/2]."""
    halves = codes.view(np.uint8) & np.uint8(15)
    return halves[..., ::2] | halves[..., 1::2] << np.uint8(4)
