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
# By how much of its range a group may be clipped, where that makes its numbers better.
_RANGES = (1.0, 0.95, 0.9, 0.85, 0.8)


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

    def pack(self, matrix: Array) -> Array:
        """The blocks of `matrix` [N, K] as bytes [tiles, K/32, nbytes]; K is a multiple of 32."""
        outputs, inner = matrix.shape
        tiles = -(-outputs // LANES)
        whole = np.zeros((tiles * LANES, inner), np.float32)
        whole[:outputs] = matrix
        q, scale, low = self._quantize(whole.reshape(tiles * LANES, inner // GROUP, GROUP))
        # [tiles, 16, groups, 8, 4] -> [tiles, groups, 8, 16, 4]
        groups = inner // GROUP
        lines = q.reshape(tiles, LANES, groups, GROUP // 4, 4).transpose(0, 2, 3, 1, 4)
        lines = lines.reshape(tiles, groups, GROUP // 4, LINE)
        if self.bits == 4:
            lines = lines[:, :, ::2] | lines[:, :, 1::2] << 4
        parts = [lines.reshape(tiles, groups, -1)]
        for numbers in (scale, low) if self.has_low else (scale,):
            sixteen = numbers.reshape(tiles, LANES, groups).transpose(0, 2, 1)
            parts.append(np.ascontiguousarray(sixteen).view(np.uint8))
        return np.concatenate(parts, axis=2)

    def _quantize(self, groups: Array) -> tuple[Array, Array, Array]:
        """q (u8), scale and low (f16) of groups [R, G, 32]."""
        if self.bits == 8:
            scale = (np.abs(groups).max(-1) / 127).astype(np.float16)
            step = scale.astype(np.float32)[..., None]
            q = np.divide(groups, step, out=np.zeros_like(groups), where=step > 0)
            return (np.clip(np.rint(q), -127, 127) + _MIDDLE).astype(np.uint8), scale, scale
        return _clipped(groups)


def _clipped(groups: Array) -> tuple[Array, Array, Array]:
    """In 4 bits, with the range of each group that leaves the smallest squared error."""
    least, most = groups.min(-1), groups.max(-1)
    middle, half = (most + least) / 2, (most - least) / 2
    best = np.full(least.shape, np.inf, np.float32)
    q = np.zeros(groups.shape, np.uint8)
    scale, low = (np.zeros(least.shape, np.float16) for _ in range(2))
    for part in _RANGES:
        start = (middle - half * part).astype(np.float16)
        step = (half * part * 2 / 15).astype(np.float16)
        wide, first = step.astype(np.float32)[..., None], start.astype(np.float32)[..., None]
        places = np.divide(groups - first, wide, out=np.zeros_like(groups), where=wide > 0)
        places = np.clip(np.rint(places), 0, 15)
        error = np.square(places * wide + first - groups).sum(-1)
        better = error < best
        best = np.where(better, error, best)
        q[better] = places[better].astype(np.uint8)
        scale[better], low[better] = step[better], start[better]
    return q, scale, low
