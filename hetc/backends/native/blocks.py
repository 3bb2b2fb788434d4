"""Quantized matrices: 32 numbers along K share a scale, and lie together with it.

A number is `scale * q + low`, q a whole number from 0 on. In 8 bits the zero is in the middle: low
is -128 times the scale. In 4 bits low is stored beside the scale, as in GGUF's Q4_1. A block is of
16 outputs by 32 steps: `[8][16][4]` bytes in 8 bits; in 4 bits two such lines of 64 bytes in one,
the second in the upper halves. 16 scales (f16) follow, and in 4 bits 16 lows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hetc.backends.native.ssa import LANES
from hetc.ir.types import Array

GROUP = 32
LINE = 64
_MIDDLE = 128


@dataclass(frozen=True)
class BlockFormat:
    """How one block of 16 x 32 numbers lies in memory."""

    bits: int

    @property
    def lines(self) -> int:
        """Lines of 64 bytes that hold the q."""
        return GROUP * LANES * self.bits // 8 // LINE

    @property
    def has_low(self) -> bool:
        """Whether each group has its own smallest number."""
        return self.bits == 4

    @property
    def nbytes(self) -> int:
        return self.lines * LINE + LANES * 2 * (2 if self.has_low else 1)

    def pack(self, q: Array, scale: Array, low: Array | None) -> Array:
        """The blocks of a matrix [N, K] as bytes [tiles, K/32, nbytes], K a multiple of 32.

        `q` [N, K]: i8 in 8 bits, u8 from 0 to 15 in 4. `scale` and, in 4 bits, `low` f16[N, K/32].
        """
        outputs, inner = q.shape
        tiles, groups = -(-outputs // LANES), inner // GROUP
        q = q if self.bits == 4 else (q.astype(np.int16) + _MIDDLE).astype(np.uint8)
        # [tiles, 16, groups, 8, 4] -> [tiles, groups, 8, 16, 4]
        lines = _whole(q, tiles).reshape(tiles, LANES, groups, GROUP // 4, 4)
        lines = lines.transpose(0, 2, 3, 1, 4).reshape(tiles, groups, GROUP // 4, LINE)
        if self.bits == 4:
            lines = lines[:, :, ::2] | lines[:, :, 1::2] << 4
        parts = [lines.reshape(tiles, groups, -1)]
        for numbers in (scale, low) if low is not None else (scale,):
            sixteen = _whole(numbers, tiles).reshape(tiles, LANES, groups).transpose(0, 2, 1)
            parts.append(np.ascontiguousarray(sixteen).view(np.uint8))
        return np.concatenate(parts, axis=2)


def _whole(rows: Array, tiles: int) -> Array:
    """`rows` filled up with zeros to whole tiles: a scale of zero makes zeros of whatever q is."""
    missing = tiles * LANES - len(rows)
    return np.pad(rows, ((0, missing), (0, 0))) if missing else rows
