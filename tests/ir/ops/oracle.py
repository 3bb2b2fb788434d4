"""Cases for the semantics of ops: operands drawn by hypothesis, results from an independent oracle.

A case is registered for an op and some element types. It draws fields for the op and says what must
come out, computed with torch or by a loop over elements, never with the code under test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from hetc.ir.types import BF16, BOOL, F32, I32, I64, U8, Array, DType, dtype_of

FLOATS = (F32, BF16)
INTS = (I64, I32)
NUMBERS = (*FLOATS, *INTS)
ANY = (*NUMBERS, BOOL, U8)


@dataclass(frozen=True)
class Trial:
    """Fields for an op (arrays become values) and what it must give."""

    fields: dict[str, Any]
    expected: Sequence[torch.Tensor | Array]
    weights: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Draw:
    """What a case for the op `kind` draws from; arrays are of `dtype` unless told otherwise."""

    data: st.DataObject
    kind: str
    dtype: DType

    def integer(self, low: int, high: int) -> int:
        return self.data.draw(st.integers(low, high))

    def flag(self) -> bool:
        return self.data.draw(st.booleans())

    def choice(self, items: Sequence[Any]) -> Any:
        return self.data.draw(st.sampled_from(list(items)))

    def shape(self, low: int = 0, high: int = 4, most: int = 4) -> tuple[int, ...]:
        """A shape of `low` to `high` axes."""
        sizes = st.lists(st.integers(1, most), min_size=low, max_size=high)
        return tuple(self.data.draw(sizes))

    def axis(self, shape: tuple[int, ...]) -> int:
        """An axis, counted from the front or the back."""
        return self.integer(-len(shape), len(shape) - 1)

    def axes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Some axes, each once, in any order."""
        chosen = self.data.draw(st.permutations(range(len(shape))))
        return tuple(chosen[: self.integer(1, len(shape))])

    def array(
        self, *shape: int, dtype: DType | None = None, low: float = -4, high: float = 4
    ) -> Array:
        """Numbers from `low` to `high`; integers include both ends."""
        dtype = dtype or self.dtype
        rng = np.random.default_rng(self.data.draw(st.integers(0, 2**32 - 1)))
        if dtype is BOOL:
            return rng.integers(0, 2, shape).astype(bool)
        if dtype.is_float:
            return rng.uniform(low, high, shape).astype(dtype.numpy)
        start = max(low, 0) if dtype is U8 else low
        return rng.integers(int(start), int(high) + 1, shape).astype(dtype.numpy)

    def under(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape that broadcasts to `shape`."""
        kept = shape[self.integer(0, len(shape)) :]
        return tuple(1 if self.flag() else size for size in kept)


Case = Callable[[Draw], Trial]
CASES: dict[tuple[str, str], list[Case]] = {}


def case(*kinds: str, dtypes: Sequence[DType] = (F32,)) -> Callable[[Case], Case]:
    """Register a function as a case of an op, for each of some element types."""

    def register(function: Case) -> Case:
        for kind in kinds:
            for dtype in dtypes:
                CASES.setdefault((kind, dtype.name), []).append(function)
        return function

    return register


def as_torch(array: Array) -> torch.Tensor:
    """The array as a tensor, bf16 included."""
    array = np.array(array)
    if dtype_of(array) is BF16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def as_array(result: torch.Tensor | Array) -> Array:
    """The tensor as an array, bf16 included."""
    if not isinstance(result, torch.Tensor):
        return np.asarray(result)
    if result.dtype == torch.bfloat16:
        return result.contiguous().view(torch.int16).numpy().view(BF16.numpy)
    array: Array = result.contiguous().numpy()
    return array


def wide(array: Array) -> torch.Tensor:
    """The array as a tensor of at least f32: torch's own bf16 kernels round inside."""
    tensor = as_torch(array)
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def narrow(result: torch.Tensor, like: Array) -> torch.Tensor:
    """The result in the element type of `like`."""
    return result.to(as_torch(like).dtype)
