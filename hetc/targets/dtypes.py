"""The names of number formats in target files, and which format a device uses for one that it
cannot multiply.
"""

from __future__ import annotations

from hetc.errors import TargetError

# Each format with the next one that holds all of its values and that matrix units offer. The chain
# ends at f32, which every device has a rate for. Block formats (bfp8, bfp4) share one exponent
# among 16 values.
_WIDER = {
    "i4": "i8",
    "i8": "bf16",
    "f4": "f8",
    "f8": "bf16",
    "bfp4": "bfp8",
    "bfp8": "bf16",
    "bf16": "tf32",
    "f16": "tf32",
    "tf32": "f32",
    "f32": None,
}

DTYPES = tuple(_WIDER)

# Bits that memory holds for one value, shared scales included: bfp formats share 8 bits of exponent
# among 16 values, f4 (NVFP4) 8 bits of scale among 16, i4 and i8 16 bits among 128.
_BITS = {
    "i4": 4.125,
    "i8": 8.125,
    "f4": 4.5,
    "f8": 8.0,
    "bfp4": 4.5,
    "bfp8": 8.5,
    "bf16": 16.0,
    "f16": 16.0,
    "tf32": 32.0,
    "f32": 32.0,
}


def bytes_per_value(dtype: str) -> float:
    """Bytes that memory holds for one value of a format, its part of shared scales included."""
    return _BITS[canonical_dtype(dtype)] / 8


_ALIASES = {
    "fp32": "f32",
    "float32": "f32",
    "fp16": "f16",
    "float16": "f16",
    "bfloat16": "bf16",
    "fp8": "f8",
    "f8e4m3": "f8",
    "f8e5m2": "f8",
    "float8_e4m3fn": "f8",
    "float8_e5m2": "f8",
    "fp4": "f4",
    "int8": "i8",
    "uint8": "i8",
    "u8": "i8",
    "int4": "i4",
    "uint4": "i4",
    "u4": "i4",
    # Index arithmetic and doubles are too rare in a language model to deserve a rate of their own.
    "f64": "f32",
    "float64": "f32",
    "i64": "f32",
    "int64": "f32",
    "i32": "f32",
    "int32": "f32",
    "i16": "f32",
    "u64": "f32",
    "u32": "f32",
    "u16": "f32",
    "int16": "f32",
    "bool": "f32",
    "i1": "f32",
}


def canonical_dtype(dtype: str) -> str:
    """The target file's name of a format (`float16` and `fp16` are `f16`); an unknown one is a
    `TargetError`.
    """
    name = _ALIASES.get(dtype, dtype)
    if name not in _WIDER:
        raise TargetError(
            "HETC-T012", "unknown number format", expected=", ".join(DTYPES), found=dtype
        )
    return name


def widening(dtype: str) -> tuple[str, ...]:
    """The format itself and every wider one, nearest first, ending at `f32`."""
    chain: list[str] = []
    name: str | None = canonical_dtype(dtype)
    while name is not None:
        chain.append(name)
        name = _WIDER[name]
    return tuple(chain)
