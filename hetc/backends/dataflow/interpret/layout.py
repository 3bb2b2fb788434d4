"""The layout of tensors in memory that a plan means.

**Matrices** of a stage (use `matrix`): the tensors of its `w` stream stand side by side along the
output axis N, in the order of `Stream.tensors`, and are cut in tiles of `Tiling.outputs` x
`Tiling.inputs`. A piece of a tensor (an `Allocation`: rows are outputs) holds its share of each
tile that it has a part in, the shares in the order (output tile, input tile), each one `[k][n]`:
inputs outermost, outputs innermost, as the axpy form takes them. The stream brings the shares in
the order (output tile, input tile, tensor, piece), those of another tier by that tier's stream.

A matrix in **groups of integers** lies as its codes do: of 4 bits, a number is a byte of two
inputs. Its scales, zeros and shifts are vectors: they come before the tiles and stay, and a tile is
dequantized where it is multiplied.

**Experts** (use `matrix`, stream kind `expert`): rows are experts, each one's matrix packed like a
matrix of its own. The chosen ones come in ascending order, each one with all tensors of the stream.

**Vectors and tables**: row major.

**States**: row major, with as many rows as the allocation has in the place of the growing axis. A
ring of n rows has position p in row p % n.

Iteration i of a block lies at `offset + i * stride` of each allocation. With a split of K, a tile's
inputs are cut in `split_k` parts of equal size (the last ones may be smaller or empty), lane j of a
group adds up part j over all tiles, and the reducer adds the lanes in their order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hetc.backends.dataflow.schema import Tiling

Range = tuple[int, int]


@dataclass(frozen=True)
class Matrix:
    """One tensor of a stage as N x K; `pieces` are the ranges of its outputs, one an allocation."""

    tensor: str
    outputs: int
    inputs: int
    dtype: np.dtype[Any]
    pieces: tuple[Range, ...]


@dataclass(frozen=True)
class Share:
    """What one piece of a tensor has of one tile.

    `rows` and `columns` count in the tensor; `offset` is where the share lies behind the begin of
    its piece.
    """

    tensor: str
    piece: int
    rows: Range
    columns: Range
    offset: int
    bytes: int

    @property
    def shape(self) -> tuple[int, int]:
        """[k][n]"""
        return self.columns[1] - self.columns[0], self.rows[1] - self.rows[0]


def shares(matrices: Sequence[Matrix], tiling: Tiling) -> tuple[Share, ...]:
    """The shares of all tiles of `matrices`, which have one K, in the order of their stream."""
    outputs, inputs = sum(m.outputs for m in matrices), matrices[0].inputs
    filled: Counter[tuple[str, int]] = Counter()
    found: list[Share] = []
    for row in range(0, outputs, tiling.outputs):
        for column in range(0, inputs, tiling.inputs):
            columns = column, min(inputs, column + tiling.inputs)
            for matrix, piece, rows in _parts(matrices, (row, row + tiling.outputs)):
                elements = (rows[1] - rows[0]) * (columns[1] - columns[0])
                key = matrix.tensor, piece
                nbytes = elements * matrix.dtype.itemsize
                found.append(Share(*key, rows, columns, filled[key], nbytes))
                filled[key] += nbytes
    return tuple(found)


def _parts(matrices: Sequence[Matrix], tile: Range) -> Iterator[tuple[Matrix, int, Range]]:
    """Matrix, piece and rows of what the outputs `tile` of all matrices side by side are."""
    start = 0
    for matrix in matrices:
        for number, (low, high) in enumerate(matrix.pieces):
            rows = max(low, tile[0] - start), min(high, tile[1] - start)
            if rows[0] < rows[1]:
                yield matrix, number, rows
        start += matrix.outputs


def lane_parts(width: int, split_k: int) -> Iterator[tuple[int, Range]]:
    """Lane and its part of the `width` inputs of a tile, for the lanes that have one."""
    each = -(-width // split_k)
    for lane in range(split_k):
        part = lane * each, min(width, (lane + 1) * each)
        if part[0] < part[1]:
            yield lane, part
