"""Torch element types and tensors as hetc's: names like "bf16", NumPy arrays without a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ml_dtypes

from hetc.frontends.sources.model_source import Array

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


def dtype_name(dtype: torch.dtype) -> str:
    """hetc's name of a torch element type; the torch name itself where hetc has none."""
    name = str(dtype).removeprefix("torch.")
    return _NAMES.get(name, name)


def to_numpy(tensor: torch.Tensor) -> Array:
    """`tensor` (on the CPU) as an array over the same memory, by ml_dtypes where NumPy lacks it."""
    import torch

    views = {
        torch.bfloat16: (torch.uint16, ml_dtypes.bfloat16),
        torch.float8_e4m3fn: (torch.uint8, ml_dtypes.float8_e4m3fn),
        torch.float8_e5m2: (torch.uint8, ml_dtypes.float8_e5m2),
    }
    plain = tensor.detach().contiguous()
    if plain.dtype not in views:
        array: Array = plain.numpy()
        return array
    carrier, dtype = views[plain.dtype]
    return plain.view(carrier).numpy().view(dtype)
