"""Whether a tensor is still what it was, as far as that can be told in a microsecond or two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hetc.frontends.torch_export.dtypes import to_numpy
from hetc.ir.types import Array

if TYPE_CHECKING:
    import torch

# About how many places along each axis are looked at.
_PLACES = 3


@dataclass(frozen=True)
class Watched:
    """A tensor at some moment; it is kept, so that nothing else can come to lie where it does.

    PyTorch counts writes into a tensor, but for those through `.data`: some of its numbers, spread
    over all of it, are looked at as well.
    """

    tensor: torch.Tensor
    version: int
    numbers: Array
    before: bytes

    @staticmethod
    def of(tensor: torch.Tensor) -> Watched | None:
        """What `tensor` is now; None for one made for inference, whose writes nobody counts."""
        if tensor.is_inference():
            return None
        array = to_numpy(tensor)
        spread = tuple(slice(None, None, max(1, size // _PLACES)) for size in array.shape)
        numbers = array[spread]
        return Watched(tensor, tensor._version, numbers, numbers.tobytes())

    def is_still(self, tensor: torch.Tensor, counted: int = 0) -> bool:
        """Whether `tensor` is the same memory, seen alike, and nothing was written there; `counted`
        writes were counted that were none."""
        kept = self.tensor
        is_same = tensor is kept or (
            tensor.data_ptr() == kept.data_ptr()
            and tensor.shape == kept.shape
            and tensor.stride() == kept.stride()
            and tensor.dtype == kept.dtype
        )
        is_unwritten = kept._version == self.version + counted
        return is_same and is_unwritten and self.numbers.tobytes() == self.before
