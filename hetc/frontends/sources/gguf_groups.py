"""Quantized GGUF tensors as a model has them: the file's own integers and scales, rows in place.

transformers' tensor processors turn what the file has into the model's weights. Where one only
moves rows (queries and keys of Llama, gates and ups of experts), the rows of codes and scales move
alike, and nothing is rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from hetc.frontends.sources.gguf_blocks import LAYOUTS, packed4
from hetc.frontends.sources.gguf_tensors import GGUFTensor
from hetc.frontends.sources.model_source import Array
from hetc.ir.model import StoredGroups, WeightData
from hetc.ir.types import U8, DType

# What the model has of arrays [..., rows, columns], one a tensor of the file.
Process = Callable[[Sequence[Array]], Array]
_PROBED_COLUMNS = 3


def groups_of(
    shape: tuple[int, ...], parts: Sequence[GGUFTensor], process: Process
) -> StoredGroups | None:
    """The groups of the weight of `shape` that `process` makes of `parts`; None where the file has
    no integers of it, or the model has its rows as something else than rows."""
    layout = LAYOUTS.get(parts[0].kind.name)
    same = all(part.kind is parts[0].kind and part.shape[-1] == shape[-1] for part in parts)
    if layout is None or not same or len(shape) < 2:
        return None
    rows = _rows(shape, parts, process)
    if rows is None:
        return None
    size = parts[0].blocks.shape[-1] // (shape[-1] // layout.elements)

    def data(last: int, dtype: DType, take: Callable[[Array], Array]) -> WeightData:
        def load() -> Array:
            made = [
                take(np.ascontiguousarray(part.blocks).reshape(-1, size)).reshape(-1, last)
                for part in parts
            ]
            whole = made[0] if len(made) == 1 else np.concatenate(made)
            ordered = whole if rows is _IN_PLACE else whole[rows]
            return ordered.reshape(*shape[:-1], last).astype(dtype.numpy, copy=False)

        return WeightData((*shape[:-1], last), dtype, load)

    def codes(blocks: Array) -> Array:
        found = layout.codes(blocks)
        return packed4(found) if layout.bits == 4 else found

    groups = shape[-1] // layout.group
    is_packed = layout.bits == 4
    return StoredGroups(
        group=layout.group,
        codes=data(shape[-1] // 2, U8, codes)
        if is_packed
        else data(shape[-1], layout.dtype, codes),
        scale=data(groups, layout.numbers, layout.scale),
        shift=data(groups, layout.numbers, layout.shift) if layout.shift else None,
        packed=layout.dtype if is_packed else None,
    )


_IN_PLACE = np.empty(0, np.int64)


def _rows(shape: tuple[int, ...], parts: Sequence[GGUFTensor], process: Process) -> Array | None:
    """Which row of `parts`, one below the other, each row of the model is: `process` is shown rows
    that hold their numbers. None where it does not leave rows whole."""
    counts = [math.prod(part.shape[:-1]) for part in parts]
    first = 0
    shown = []
    for part, count in zip(parts, counts, strict=True):
        numbers = np.arange(first, first + count).reshape(*part.shape[:-1], 1)
        shown.append(np.repeat(numbers, _PROBED_COLUMNS, axis=-1))
        first += count
    try:
        found = process(shown)
    except ValueError:  # it asks for all columns: what it does with rows cannot be told
        return None
    if found.shape != (*shape[:-1], _PROBED_COLUMNS):
        return None
    rows = found[..., 0].reshape(-1)
    if not np.array_equal(found, np.repeat(found[..., :1], _PROBED_COLUMNS, axis=-1)):
        return None
    if np.array_equal(rows, np.arange(first)):
        return _IN_PLACE
    return rows if np.array_equal(np.sort(rows), np.arange(first)) else None
