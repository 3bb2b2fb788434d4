"""The new rows of a step, written into PyTorch's caches or joined to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hetc.frontends.torch_export.dtypes import dtype_of_torch, to_torch
from hetc.ir.types import Array

if TYPE_CHECKING:
    import torch


def write_rows(
    caches: Sequence[torch.Tensor],
    arrays: Sequence[Array],
    rows: Sequence[Array],
    positions: Sequence[int],
) -> None:
    """Write a row [B,G,D] into each cache [B,G,L,D] at its position; `arrays` are the caches as
    NumPy has them."""
    import torch

    for array, row, position in zip(arrays, rows, positions, strict=True):
        array[:, :, position] = row
    # PyTorch saw nothing of it.
    torch.autograd.graph.increment_version(caches)


def with_rows(caches: Sequence[torch.Tensor], rows: Sequence[Array]) -> list[torch.Tensor]:
    """New caches, with a row [B,G,D] behind those of each."""
    import torch

    alike: dict[tuple[tuple[int, ...], torch.dtype], list[int]] = {}
    for place, (cache, row) in enumerate(zip(caches, rows, strict=True)):
        alike.setdefault((row.shape, cache.dtype), []).append(place)
    joined = list(caches)
    for (_, dtype), places in alike.items():
        # One tensor of all rows: to make one of each takes longer than to join them.
        new = np.stack([rows[place] for place in places])[..., None, :]
        for place, row in zip(places, to_torch(new, dtype_of_torch(dtype)), strict=True):
            joined[place] = torch.cat([caches[place], row], 2)
    return joined
