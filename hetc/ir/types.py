"""Element types and tensor types."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import ml_dtypes
import numpy as np

from hetc.errors import IRError
from hetc.ir.dims import Dim, DimLike, parse_dim, product, substitute

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[DimLike, ...]


@dataclass(frozen=True, eq=False)
class DType:
    """An element type: name in the text form, bits, kind (`float`, `int`, `bool` or `complex`).

    There is one object of each, so that `is` compares them.
    """

    name: str
    bits: int
    kind: str

    @property
    def numpy(self) -> np.dtype[Any]:
        return _NUMPY[self.name]

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_int(self) -> bool:
        return self.kind == "int"

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles give the one object back.
        return _dtype_named, (self.name,)


F64 = DType("f64", 64, "float")
F32 = DType("f32", 32, "float")
F16 = DType("f16", 16, "float")
BF16 = DType("bf16", 16, "float")
F8E4M3 = DType("f8e4m3", 8, "float")
F8E5M2 = DType("f8e5m2", 8, "float")
I64 = DType("i64", 64, "int")
I32 = DType("i32", 32, "int")
I16 = DType("i16", 16, "int")
I8 = DType("i8", 8, "int")
U64 = DType("u64", 64, "int")
U32 = DType("u32", 32, "int")
U16 = DType("u16", 16, "int")
U8 = DType("u8", 8, "int")
BOOL = DType("bool", 8, "bool")
C64 = DType("c64", 64, "complex")

_NUMPY: dict[str, np.dtype[Any]] = {
    "f64": np.dtype(np.float64),
    "f32": np.dtype(np.float32),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f8e4m3": np.dtype(ml_dtypes.float8_e4m3fn),
    "f8e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "i64": np.dtype(np.int64),
    "i32": np.dtype(np.int32),
    "i16": np.dtype(np.int16),
    "i8": np.dtype(np.int8),
    "u64": np.dtype(np.uint64),
    "u32": np.dtype(np.uint32),
    "u16": np.dtype(np.uint16),
    "u8": np.dtype(np.uint8),
    "bool": np.dtype(np.bool_),
    "c64": np.dtype(np.complex64),
}
_ALL = (F64, F32, F16, BF16, F8E4M3, F8E5M2, I64, I32, I16, I8, U64, U32, U16, U8, BOOL, C64)
DTYPES = {dtype.name: dtype for dtype in _ALL}
_BY_NUMPY = {dtype.numpy: dtype for dtype in DTYPES.values()}


def _dtype_named(name: str) -> DType:
    return DTYPES[name]


def dtype_of(array: Array) -> DType:
    """The element type of a NumPy array; raises IRError (HETC-X003) for one without a name here."""
    try:
        return _BY_NUMPY[array.dtype]
    except KeyError:
        raise IRError("HETC-X003", f"no hetc element type for NumPy's {array.dtype}") from None


@dataclass(frozen=True)
class TensorType:
    """A dtype and a shape of ints and symbolic dims: `f32[B,S,576]`."""

    dtype: DType
    shape: Shape

    @property
    def rank(self) -> int:
        return len(self.shape)

    @cached_property
    def size(self) -> DimLike:
        """Number of elements."""
        return product(self.shape)

    @cached_property
    def nbytes(self) -> DimLike:
        """Bytes of all elements."""
        return self.size * (self.dtype.bits // 8)

    def substitute(self, values: Mapping[str, DimLike]) -> TensorType:
        """The type with some symbols replaced."""
        if not any(isinstance(dim, Dim) for dim in self.shape):
            return self
        return TensorType(self.dtype, tuple(substitute(dim, values) for dim in self.shape))

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape)

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        return f"{self.dtype.name}[{','.join(map(str, self.shape))}]"


_TYPE = re.compile(r"([a-z0-9]+)\[(.*)\]")


@lru_cache(maxsize=65536)
def parse_type(text: str) -> TensorType:
    """The inverse of `str`: `f32[B,S,576]`; raises IRError (HETC-X005) for anything else."""
    match = _TYPE.fullmatch(text)
    if match is None or match[1] not in DTYPES:
        raise IRError(
            "HETC-X005", f"{text!r} is not a tensor type", expected="such as f32[B,S,576]"
        )
    dims = match[2].split(",") if match[2].strip() else []
    return TensorType(DTYPES[match[1]], tuple(parse_dim(dim.strip()) for dim in dims))
