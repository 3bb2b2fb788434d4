"""Element types of stored tensors: hetc's name, safetensors' name and NumPy's type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np


@dataclass(frozen=True)
class StoredType:
    """One element type that a bundle stores: little-endian, a whole number of bytes."""

    name: str
    safetensors: str
    numpy: np.dtype[Any]

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self.numpy.itemsize


_TYPES = (
    StoredType("f64", "F64", np.dtype("<f8")),
    StoredType("f32", "F32", np.dtype("<f4")),
    StoredType("f16", "F16", np.dtype("<f2")),
    StoredType("bf16", "BF16", np.dtype(ml_dtypes.bfloat16)),
    StoredType("f8e4m3", "F8_E4M3", np.dtype(ml_dtypes.float8_e4m3fn)),
    StoredType("f8e5m2", "F8_E5M2", np.dtype(ml_dtypes.float8_e5m2)),
    StoredType("i64", "I64", np.dtype("<i8")),
    StoredType("i32", "I32", np.dtype("<i4")),
    StoredType("i16", "I16", np.dtype("<i2")),
    StoredType("i8", "I8", np.dtype("i1")),
    StoredType("u64", "U64", np.dtype("<u8")),
    StoredType("u32", "U32", np.dtype("<u4")),
    StoredType("u16", "U16", np.dtype("<u2")),
    StoredType("u8", "U8", np.dtype("u1")),
    StoredType("bool", "BOOL", np.dtype("?")),
)

BY_NAME = {stored.name: stored for stored in _TYPES}
BY_SAFETENSORS = {stored.safetensors: stored for stored in _TYPES}
