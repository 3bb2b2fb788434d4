"""Matrix products tile by tile: partial sums of every lane of a split K, and their reducer."""

from __future__ import annotations

import numpy as np

from hetc.backends.dataflow.interpret.layout import Share, lane_parts
from hetc.ir.lockstep import Shards
from hetc.ir.ops.elementwise_base import as_f32
from hetc.ir.types import Array


class Product:
    """The product of a matrix with the rows of `x`, on all sockets; accumulates in f32.

    `x` is [..., K] on each socket; `split_k` lanes share an output.
    """

    def __init__(self, x: Shards, outputs: int, split_k: int) -> None:
        self._like = x[0]
        rows = np.stack([as_f32(part.reshape(-1, part.shape[-1])) for part in x])
        self._rows = rows
        self._sums = np.zeros((len(x), split_k, rows.shape[1], outputs), rows.dtype)

    def add(self, share: Share, tile: Array, rows: Array | None = None) -> None:
        """Take a tile [sockets, k, n]; with `rows`, only for these rows of x."""
        x = self._rows if rows is None else self._rows[:, rows]
        x = x[:, :, slice(*share.columns)]
        tile = as_f32(tile)
        outputs = slice(*share.rows)
        for lane, part in lane_parts(tile.shape[1], self._sums.shape[1]):
            added = x[:, :, slice(*part)] @ tile[:, slice(*part)]
            if rows is None:
                self._sums[:, lane, :, outputs] += added
            else:
                self._sums[:, lane, rows, outputs] += added

    def result(self, bias: Shards | None) -> Shards:
        """The lanes added in their order, and the bias."""
        total = self._sums[:, 0]
        for lane in range(1, self._sums.shape[1]):
            total = total + self._sums[:, lane]
        shape = (*self._like.shape[:-1], total.shape[-1])
        wide = [part.reshape(shape) for part in total]
        if bias is not None:
            wide = [part + as_f32(added) for part, added in zip(wide, bias, strict=True)]
        return tuple(part.astype(self._like.dtype) for part in wide)
