"""Tensors of an ONNX file: element types, and their data, read only when it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hetc.errors import HetcError, InputError
from hetc.frontends.onnx.external import map_external
from hetc.ir.model import WeightData
from hetc.ir.types import (
    BF16,
    BOOL,
    C64,
    F8E4M3,
    F8E5M2,
    F16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    Array,
    DType,
)

if TYPE_CHECKING:
    from onnx import TensorProto

# Numbers of TensorProto.DataType in onnx.proto.
_DTYPES = {
    1: F32,
    2: U8,
    3: I8,
    4: U16,
    5: I16,
    6: I32,
    7: I64,
    9: BOOL,
    10: F16,
    11: F64,
    12: U32,
    13: U64,
    14: C64,
    16: BF16,
    17: F8E4M3,
    19: F8E5M2,
}
NUMBERS = {dtype: number for number, dtype in _DTYPES.items()}
# Stored integers of 4 or 2 bits, the first of a byte in its low bits, are widened: the IR has no
# smaller integer than a byte.
PACKED = {21: (U8, 4), 22: (I8, 4), 25: (U8, 2), 26: (I8, 2)}
_MAX_ELEMENTS = 2**40


def dtype_named(number: int, at: str) -> DType:
    """The element type that ONNX gives this number; raises InputError (HETC-I313) where hetc has
    none.
    """
    dtype = _DTYPES.get(number)
    if dtype is None:
        known = ", ".join(str(dtype) for dtype in _DTYPES.values())
        raise InputError(
            "HETC-I313",
            "a tensor has an element type that hetc does not compute with",
            at=at,
            expected=f"one of {known}",
            found=f"ONNX data type {number}",
        )
    return dtype


def _stored_dtype(tensor: TensorProto) -> tuple[DType, int]:
    """The dtype that a tensor of the file has here, and how many of its elements lie in a byte, for
    those that share one (else 1).
    """
    if tensor.data_type in PACKED:
        dtype, bits = PACKED[tensor.data_type]
        return dtype, 8 // bits
    return dtype_named(tensor.data_type, tensor.name), 1


def weight_data(tensor: TensorProto, folder: Path | None) -> WeightData:
    """Shape, dtype and a lazy reader of an initializer; external data is mapped from a file inside
    `folder`.

    Sizes are checked now and external files again when they are read. Raises InputError: HETC-I315
    where shape and data disagree, HETC-I303 and HETC-I304 for external data that is elsewhere or
    missing.
    """
    shape = tuple(tensor.dims)
    dtype, packed = _stored_dtype(tensor)
    count = _count(tensor)
    if tensor.external_data or tensor.data_location == 1:
        if folder is None:
            raise InputError(
                "HETC-I303",
                "a tensor inside a node may not keep its data in another file",
                at=tensor.name,
            )
        stored = np.dtype(np.uint8) if packed > 1 else dtype.numpy
        elements = -(-count // packed)
        entries = {item.key: item.value for item in tensor.external_data}
        load = map_external(entries, folder, tensor.name, stored, elements)
        return WeightData(shape, dtype, lambda: _shaped(load(), tensor.data_type, shape, dtype))
    _check_inline(tensor, count, dtype, packed)
    return WeightData(shape, dtype, lambda: array_of(tensor))


def array_of(tensor: TensorProto) -> Array:
    """The elements of a tensor that stands in the file itself; raises InputError (HETC-I315) for a
    malformed one.
    """
    from onnx import numpy_helper

    dtype, packed = _stored_dtype(tensor)
    _check_inline(tensor, _count(tensor), dtype, packed)
    if tensor.HasField("raw_data"):
        stored = np.dtype(np.uint8) if packed > 1 else dtype.numpy
        data = np.frombuffer(tensor.raw_data, stored.newbyteorder("<"))
        return _shaped(data, tensor.data_type, tuple(tensor.dims), dtype)
    try:
        return np.asarray(numpy_helper.to_array(tensor)).astype(dtype.numpy, copy=False)
    except (ValueError, TypeError, OverflowError) as error:
        raise _malformed(tensor, str(error)) from error


def _shaped(data: Array, number: int, shape: tuple[int, ...], dtype: DType) -> Array:
    if number in PACKED:
        bits = PACKED[number][1]
        parts = [(data >> shift) & (2**bits - 1) for shift in range(0, 8, bits)]
        data = np.stack(parts, axis=-1).reshape(-1)[: int(np.prod(shape))]
        if dtype is I8:
            # In two's complement: the upper half of the codes is negative.
            data = (data ^ 2 ** (bits - 1)).astype(np.int8) - np.int8(2 ** (bits - 1))
    return np.asarray(data).reshape(shape)


def _count(tensor: TensorProto) -> int:
    count = 1
    for dim in tensor.dims:
        count *= dim
        if dim < 0 or count > _MAX_ELEMENTS:
            raise _malformed(tensor, f"shape {list(tensor.dims)[:8]}")
    return count


def _check_inline(tensor: TensorProto, count: int, dtype: DType, packed: int) -> None:
    # Checked before anything is allocated: a shape in a damaged file may ask for terabytes.
    if tensor.HasField("raw_data"):
        expected = -(-count // packed) if packed > 1 else count * dtype.numpy.itemsize
        found = len(tensor.raw_data)
        unit = "bytes"
    else:
        fields = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data)
        found = max(len(tensor.uint64_data), *map(len, fields))
        expected = -(-count // packed) if packed > 1 else 2 * count if dtype is C64 else count
        unit = "numbers"
    if found != expected:
        raise InputError(
            "HETC-I315",
            "a tensor has a shape that its data does not fill",
            at=tensor.name,
            expected=f"{expected} {unit} for {dtype}{list(tensor.dims)}",
            found=f"{found} {unit}",
            do="export the model again; the file is damaged",
        )


def _malformed(tensor: TensorProto, found: str) -> HetcError:
    return InputError(
        "HETC-I315",
        "a tensor of the file cannot be read",
        at=tensor.name,
        found=found,
        do="export the model again; the file is damaged",
    )
