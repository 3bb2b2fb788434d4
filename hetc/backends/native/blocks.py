"""Quantized matrices: some numbers along K share a scale, and lie together with it.

A number is `scale * q + low`, q a whole number from 0 on. `low` is stored beside the scale (as in
GGUF's Q4_1), or is `-zero` times the scale, with a zero that is stored, or the middle of all q. A
block is of 16 outputs by 32 or 16 steps: in 8 bits lines `[16][4]` of 64 bytes, one for four steps;
in 4 bits two such lines in one, the second in the upper halves. 16 scales follow, and what else is
stored beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hetc.backends.native.ssa import BYTES, LANES
from hetc.ir.types import Array

LINE = 64
# A longer group is several blocks with one scale.
GROUPS = (32, 16)
Offset = Literal["middle", "zero", "low"]


@dataclass(frozen=True)
class BlockFormat:
    """How one block of 16 outputs by `group` steps lies in memory.

    `numbers` is the type of scales and lows, f16 or f32; zeros are f16.
    """

    bits: int
    group: int = 32
    numbers: str = "f16"
    offset: Offset = "middle"

    @property
    def middle(self) -> int:
        """The q that stands for zero where nothing beside the scale says so."""
        return int(2 ** (self.bits - 1))

    @property
    def lines(self) -> int:
        """Lines of 64 bytes that hold the q."""
        return self.group * LANES * self.bits // 8 // LINE

    @property
    def offset_type(self) -> str:
        """The type of what is stored beside the scales; empty for nothing."""
        return {"middle": "", "zero": "f16", "low": self.numbers}[self.offset]

    @property
    def scale_place(self) -> int:
        """Where the scales begin in a block."""
        return self.lines * LINE

    @property
    def offset_place(self) -> int:
        """Where what is beside them begins."""
        return self.scale_place + LANES * BYTES[self.numbers]

    @property
    def nbytes(self) -> int:
        more = LANES * BYTES[self.offset_type] if self.offset_type else 0
        return self.offset_place + more

    def pack(self, q: Array, scale: Array, more: Array | None) -> Array:
        """The blocks of a matrix [N, K] as bytes [tiles, K/group, nbytes].

        `q` [N, K]: u8, or i8 where the offset is the middle. `scale` [N, K/g], and the zeros or
        lows where there are some; g is a multiple of `group`.
        """
        outputs, inner = q.shape
        tiles, groups = -(-outputs // LANES), inner // self.group
        if self.offset == "middle":
            q = (q.astype(np.int16) + self.middle).astype(np.uint8)
        # [tiles, 16, groups, steps/4, 4] -> [tiles, groups, steps/4, 16, 4]
        lines = _whole(q, tiles).reshape(tiles, LANES, groups, self.group // 4, 4)
        lines = lines.transpose(0, 2, 3, 1, 4).reshape(tiles, groups, self.group // 4, LINE)
        if self.bits == 4:
            lines = lines[:, :, ::2] | lines[:, :, 1::2] << 4
        parts = [lines.reshape(tiles, groups, -1)]
        for numbers, element in ((scale, self.numbers), (more, self.offset_type)):
            if numbers is not None:
                each = numbers.astype({"f16": np.float16, "f32": np.float32}[element], copy=False)
                each = np.repeat(each, groups // numbers.shape[-1], axis=-1)
                sixteen = _whole(each, tiles).reshape(tiles, LANES, groups).transpose(0, 2, 1)
                parts.append(np.ascontiguousarray(sixteen).view(np.uint8))
        return np.concatenate(parts, axis=2)


def _whole(rows: Array, tiles: int) -> Array:
    """`rows` filled up with zeros to whole tiles: a scale of zero makes zeros of whatever q is."""
    missing = tiles * LANES - len(rows)
    return np.pad(rows, ((0, missing), (0, 0))) if missing else rows
