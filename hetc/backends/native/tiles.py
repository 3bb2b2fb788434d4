"""How a matrix lies in tiles of 16 outputs by K, whatever its numbers are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hetc.backends.native.blocks import BlockFormat
from hetc.backends.native.coded import Coded
from hetc.backends.native.ssa import BYTES, LANES
from hetc.ir.types import Array


@dataclass(frozen=True)
class TileForm:
    """A tile holds K steps of 16 numbers, or with `format` quantized blocks, or with
    `coded` bf16 in 12 bits.

    Two numbers of bf16 along K lie side by side: as 32 bits they are one number for f32 arithmetic,
    and its neighbour.
    """

    inner: int
    element: str
    format: BlockFormat | None = None
    coded: Coded | None = None

    @property
    def is_plain_bf16(self) -> bool:
        """Whether numbers are bf16 that nothing was rounded to in groups."""
        return self.element == "bf16" and self.format is None

    @property
    def pair(self) -> int:
        """Numbers along K that lie side by side."""
        return 2 if self.element == "bf16" else 1

    @property
    def tile_bytes(self) -> int:
        if self.format is not None:
            return self.inner // self.format.group * self.format.nbytes
        if self.coded is not None:
            return self.coded.tile_bytes
        return -(-self.inner // self.pair) * self.pair * LANES * BYTES[self.element]

    def pack(self, matrix: Array) -> Array:
        """`matrix` [N, K] without a format, filled up to whole tiles with zeros."""
        if self.coded is not None:
            return self.coded.pack(matrix)
        return tiled(matrix, self.pair)


def tiles_of(outputs: int) -> int:
    """Tiles that hold so many outputs."""
    return -(-outputs // LANES)


def tiled(matrix: Array, pair: int) -> Array:
    """`matrix` [N, K] as tiles [N/16, K/pair, 16, pair], filled up with zeros."""
    outputs, inner = matrix.shape
    tiles, steps = tiles_of(outputs), -(-inner // pair)
    if outputs % LANES or inner % pair:
        whole = np.zeros((tiles * LANES, steps * pair), matrix.dtype)
        whole[:outputs, :inner] = matrix
        matrix = whole
    return matrix.reshape(tiles, LANES, steps, pair).transpose(0, 2, 1, 3)
