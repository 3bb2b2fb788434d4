"""Element types: how the IR's appear in an ONNX file, and which of them ONNX Runtime computes with.

Compute is in f32: every float but f64 becomes `float`, and casts among them vanish. Only state
crosses the border of a half in its own 16 bits. The kernels'
types were read from ONNX Runtime 1.32's own list (`get_all_opkernel_def`), CPU provider, opset 23.
"""

from __future__ import annotations

from collections.abc import Mapping

from hetc.ir.types import (
    BF16,
    BOOL,
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
    DType,
)

# TensorProto.DataType of the ONNX specification.
_ONNX: Mapping[DType, int] = {
    F32: 1,
    U8: 2,
    I8: 3,
    U16: 4,
    I16: 5,
    I32: 6,
    I64: 7,
    BOOL: 9,
    F16: 10,
    F64: 11,
    U32: 12,
    U64: 13,
    BF16: 16,
}


def computed(dtype: DType) -> DType:
    """The type that stands for `dtype` in the file: f32 for f16 and bf16, else itself."""
    return F32 if dtype in (F16, BF16) else dtype


def onnx_type(dtype: DType) -> int | None:
    """The number of ONNX's type for `dtype` itself, None where the backend has none for it."""
    return _ONNX.get(dtype)


_FLOATS = frozenset({F32, F64})
_SINGLE = frozenset({F32})
_WIDE = _FLOATS | {I32, I64}
_BYTES = _WIDE | {I8, U8}
_NUMBERS = _BYTES | {I16}
_ANY = _NUMBERS | {BOOL}
_BITS = frozenset({I8, U8, I16, I32, I64})
_KERNELS: Mapping[str, frozenset[DType]] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Mod", "Abs", "Sign"), _NUMBERS),
    **dict.fromkeys(("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "TopK"), _NUMBERS),
    "Neg": _NUMBERS - {U8},
    "Equal": _ANY,
    **dict.fromkeys(("Max", "Min", "Clip", "Where", "ReduceMax", "ReduceMin"), _BYTES),
    **dict.fromkeys(("ArgMax", "ArgMin"), _BYTES),
    **dict.fromkeys(("Pow", "MatMul", "CumSum", "ReduceSum", "ReduceProd"), _WIDE),
    "Pad": _BYTES | {BOOL},
    "Range": _WIDE | {I16},
    **dict.fromkeys(("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot"), _BITS),
    "BitShift": frozenset({U8}),
    **dict.fromkeys(("And", "Or", "Xor", "Not"), frozenset({BOOL})),
    **dict.fromkeys(("Exp", "Log", "Sqrt", "Reciprocal", "Sin", "Cos", "Tanh"), _FLOATS),
    **dict.fromkeys(("Sigmoid", "Floor", "Ceil", "Round", "IsNaN", "IsInf"), _FLOATS),
    **dict.fromkeys(("Softmax", "LogSoftmax", "ReduceMean", "ReduceLogSumExp"), _FLOATS),
    **dict.fromkeys(("Gemm", "FusedMatMul"), _FLOATS),
    **dict.fromkeys(("RMSNormalization", "LayerNormalization"), _FLOATS),
    **dict.fromkeys(("Erf", "Softplus", "Conv", "Gelu"), _SINGLE),
    **dict.fromkeys(("Acos", "Asin", "Atan", "Acosh", "Asinh", "Atanh"), _SINGLE),
    **dict.fromkeys(("Cosh", "Sinh", "ConvTranspose", "AveragePool"), _SINGLE),
    "NonZero": frozenset({F32, I32, I64, U8, BOOL}),
    "MaxPool": _FLOATS | {I8, U8},
}
# Where a kernel is missing: the next type that holds every value of the first.
_WIDER: Mapping[DType, DType] = {
    BOOL: I32,
    I8: I32,
    U8: I32,
    I16: I32,
    U16: I32,
    I32: I64,
    U32: I64,
}


def kernel_type(kind: str, dtype: DType) -> DType | None:
    """The type in which ONNX Runtime's `kind` can work on `dtype` without loss, None where none."""
    takes = _KERNELS.get(kind, _ANY)
    found: DType | None = computed(dtype)
    while found is not None and found not in takes:
        found = _WIDER.get(found)
    return found
