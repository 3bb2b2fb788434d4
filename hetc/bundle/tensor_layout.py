"""Where each tensor stands in a safetensors file, and in which shard.

The format allows no holes, so padding cannot align every tensor. The order does instead: tensors
whose bytes are a multiple of 64 come first, the others after them by falling element size. The data
begins at a multiple of 64, so every tensor of the first kind is aligned to 64 bytes and every other
one to its element size. Source: the safetensors project's description of its format.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hetc.bundle.dtypes import BY_NAME, StoredType
from hetc.errors import BundleError

ALIGNMENT = 64
SHARD_BYTES = 2_000_000_000

Loader = Callable[[], np.ndarray[Any, Any]]
TensorSource = tuple[str, str, tuple[int, ...], Loader]


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor still to be written; `load` gives its values when its turn comes."""

    name: str
    dtype: StoredType
    shape: tuple[int, ...]
    load: Loader

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def values(self) -> memoryview:
        """The tensor's bytes, row-major; raises `BundleError` HETC-B023 if the loader lied."""
        array = self.load()
        if array.dtype != self.dtype.numpy or array.shape != self.shape:
            raise BundleError(
                "HETC-B023",
                "a tensor is not what was announced",
                at=self.name,
                expected=f"{self.dtype.name}{list(self.shape)}",
                found=f"{array.dtype}{list(array.shape)}",
                do="report this: the compiler's loader and its announcement disagree",
            )
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def plan_shards(
    sources: Iterable[TensorSource], *, shard_bytes: int = SHARD_BYTES
) -> list[list[PlannedTensor]]:
    """The tensors in file order, in shards of at most `shard_bytes` of data (or one tensor).

    The order depends on names, dtypes and shapes alone, not on the order of `sources`.
    """
    planned = [
        PlannedTensor(name, BY_NAME[dtype], tuple(shape), load)
        for name, dtype, shape, load in sources
    ]
    planned.sort(key=lambda t: (t.nbytes % ALIGNMENT != 0, -t.dtype.itemsize, t.name))
    names = Counter(tensor.name for tensor in planned)
    if len(names) != len(planned) or "__metadata__" in names:
        raise BundleError(
            "HETC-B023",
            "tensor names cannot be used",
            at=names.most_common(1)[0][0],
            expected="every name once, and none of them __metadata__",
            do="report this: the compiler named two tensors alike",
        )
    shards: list[list[PlannedTensor]] = [[]]
    used = 0
    for tensor in planned:
        if shards[-1] and used + tensor.nbytes > shard_bytes:
            shards.append([])
            used = 0
        shards[-1].append(tensor)
        used += tensor.nbytes
    return shards


def shard_names(relpath: str, count: int) -> list[str]:
    """`model.safetensors`, or `model-00001-of-0000N.safetensors` where there are several."""
    if count == 1:
        return [relpath]
    stem = relpath.removesuffix(".safetensors")
    return [f"{stem}-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]


def encode_header(tensors: list[PlannedTensor]) -> bytes:
    """Length and header of a safetensors file, padded with spaces to a multiple of 64 bytes."""
    entries: dict[str, object] = {}
    begin = 0
    for tensor in tensors:
        end = begin + tensor.nbytes
        entries[tensor.name] = {
            "dtype": tensor.dtype.safetensors,
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    padded = text.ljust(-(-(len(text) + 8) // ALIGNMENT) * ALIGNMENT - 8)
    return len(padded).to_bytes(8, "little") + padded
