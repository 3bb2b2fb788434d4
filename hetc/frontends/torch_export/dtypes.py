"""Element types and arrays between PyTorch, hetc and NumPy."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from hetc.errors import InputError
from hetc.ir.types import BF16, BOOL, DTYPES, F8E4M3, F8E5M2, Array, DType

if TYPE_CHECKING:
    import torch

_NAMES = {
    "float64": "f64",
    "float32": "f32",
    "float16": "f16",
    "bfloat16": "bf16",
    "float8_e4m3fn": "f8e4m3",
    "float8_e5m2": "f8e5m2",
    "int64": "i64",
    "int32": "i32",
    "int16": "i16",
    "int8": "i8",
    "uint8": "u8",
    "bool": "bool",
}
# A complex tensor is imported as two real ones; these are the types of the parts.
_PARTS = {"complex64": "f32", "complex128": "f64"}
TORCH_NAMES = {hetc: torch for torch, hetc in _NAMES.items()}
_CATEGORY = {"bool": 0, "int": 1, "float": 2, "complex": 3}


@cache
def dtype_of_torch(dtype: torch.dtype) -> DType:
    """hetc's element type; for a complex type, that of its parts. Raises InputError (HETC-I201)."""
    name = str(dtype).removeprefix("torch.")
    found = _NAMES.get(name) or _PARTS.get(name)
    if found is None:
        raise InputError(
            "HETC-I201", "hetc has no such element type", found=dtype, expected=", ".join(_NAMES)
        )
    return DTYPES[found]


def torch_dtype(dtype: DType) -> torch.dtype:
    """PyTorch's element type."""
    import torch

    found: torch.dtype = getattr(torch, TORCH_NAMES[dtype.name])
    return found


def wider(x: DType, y: DType) -> DType:
    """The type that two tensors of equal rank are promoted to (PyTorch's type promotion)."""
    if x is y:
        return x
    if x.kind != y.kind:
        return max(x, y, key=lambda dtype: _CATEGORY[dtype.kind])
    if x.bits != y.bits:
        return max(x, y, key=lambda dtype: dtype.bits)
    # f16 with bf16, or u8 with i8: neither holds the other.
    return DTYPES["f32" if x.is_float else "i16"]


def category(dtype: DType) -> int:
    """bool < int < float < complex."""
    return _CATEGORY[dtype.kind]


def to_numpy(tensor: torch.Tensor) -> Array:
    """The tensor's data as a NumPy array on the host, sharing memory where it can."""
    import torch

    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    dtype = dtype_of_torch(plain.dtype)
    if dtype in (BF16, F8E4M3, F8E5M2):
        bits = plain.view(torch.int16 if dtype is BF16 else torch.uint8)
        return bits.numpy().view(dtype.numpy)
    return plain.numpy()


def to_torch(array: Array, dtype: DType) -> torch.Tensor:
    """A copy of the array as a tensor."""
    import torch

    data = np.array(array, order="C")
    if dtype in (BF16, F8E4M3, F8E5M2):
        bits = torch.from_numpy(data.view(np.int16 if dtype is BF16 else np.uint8))
        return bits.view(torch_dtype(dtype))
    return torch.from_numpy(data.astype(np.bool_) if dtype is BOOL else data)
