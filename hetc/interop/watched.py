"""Whether tensors are still what they were, as far as that can be told in some microseconds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hetc.frontends.torch_export.dtypes import to_numpy
from hetc.ir.types import Array

if TYPE_CHECKING:
    import torch

# About how many places along each axis are looked at.
_PLACES = 3


class Watched:
    """Tensors at some moment; they are kept, so that nothing else can come to lie where they do.

    PyTorch counts writes into a tensor, but for those through `.data`: some of its numbers, spread
    over all of it, are looked at as well.
    """

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self._tensors = list(tensors)
        # They hold the memory, also where a tensor is given other by `.data`.
        self._held = [tensor.detach() for tensor in tensors]
        self._addresses = [tensor.data_ptr() for tensor in tensors]
        self._spread = _Spread(tensors, self._addresses)
        self.renew()

    @staticmethod
    def of(tensors: Sequence[torch.Tensor]) -> Watched | None:
        """What `tensors` are now; None where one was made for inference: nobody counts its
        writes."""
        return None if any(tensor.is_inference() for tensor in tensors) else Watched(tensors)

    @cached_property
    def arrays(self) -> list[Array]:
        """The tensors as NumPy has them, in the same memory."""
        return [to_numpy(tensor) for tensor in self._held]

    def renew(self) -> None:
        """Take what they are now for what they are to be."""
        self._versions = [tensor._version for tensor in self._tensors]
        self._before = self._spread.read()

    def is_still(self, tensors: Sequence[torch.Tensor], counted: Sequence[int] = ()) -> bool:
        """Whether `tensors` are the same memory, seen alike, and nothing was written there;
        `counted` writes into each were counted that were none."""
        kept = self._tensors
        if len(tensors) != len(kept):
            return False
        if not all(map(is_, tensors, kept)) and not all(map(_is_seen_alike, tensors, kept)):
            return False
        if [tensor.data_ptr() for tensor in tensors] != self._addresses:
            return False
        versions = [tensor._version for tensor in kept]
        if counted:
            versions = [found - none for found, none in zip(versions, counted, strict=True)]
        return versions == self._versions and self._spread.read() == self._before


def _is_seen_alike(tensor: torch.Tensor, kept: torch.Tensor) -> bool:
    return tensor is kept or (
        tensor.shape == kept.shape
        and tensor.stride() == kept.stride()
        and tensor.dtype == kept.dtype
    )


class _Spread:
    """Numbers spread over tensors, read all at once."""

    def __init__(self, tensors: Sequence[torch.Tensor], addresses: Sequence[int]) -> None:
        alike: dict[tuple[Any, ...], list[int]] = {}
        for tensor, address in zip(tensors, addresses, strict=True):
            key = (tuple(tensor.shape), tensor.stride(), tensor.element_size())
            alike.setdefault(key, []).append(address)
        places = [
            np.add.outer(np.array(found, np.int64), _offsets(*key)).ravel()
            for key, found in alike.items()
        ]
        bytes = np.concatenate([np.zeros(0, np.int64), *places])
        first, last = (int(bytes.min()), int(bytes.max())) if bytes.size else (0, -1)
        # All memory from the first of these numbers to the last. What lies between them is nobody's
        # business, and is not touched.
        self._memory = np.asarray(_Memory(first, last + 1 - first)) if bytes.size else bytes
        self._places = bytes - first

    def read(self) -> bytes:
        """The numbers now."""
        return self._memory.take(self._places).tobytes()


class _Memory:
    """`count` bytes from an address on, as NumPy asks for them."""

    def __init__(self, address: int, count: int) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (address, True),
            "shape": (count,),
            "typestr": "|u1",
        }


@lru_cache(maxsize=64)
def _offsets(
    sizes: tuple[int, ...], strides: tuple[int, ...], element_bytes: int
) -> NDArray[np.int64]:
    """Where in a tensor the bytes of such numbers are."""
    places = np.zeros(1, np.int64)
    for size, stride in zip(sizes, strides, strict=True):
        along = np.arange(0, size, max(1, size // _PLACES)) * stride
        places = np.add.outer(places, along).ravel()
    return np.add.outer(places * element_bytes, np.arange(element_bytes)).ravel()
