"""Tensors that are one number everywhere, such as the sum of an attention mask of ones."""

from __future__ import annotations

from hetc.frontends.onnx.item import Item
from hetc.ir.dims import Dim, DimLike, product
from hetc.ir.op import Scalar, Value
from hetc.ir.ops.elementwise import Add, Cast, Mul, Sub
from hetc.ir.ops.reduce import ReduceMax, ReduceMin, Sum
from hetc.ir.ops.shape import Broadcast, Reshape, Slice, Transpose
from hetc.ir.ops.source import Full

_SAME = (Broadcast, Cast, ReduceMax, ReduceMin, Reshape, Slice, Transpose)


def uniform(item: Item) -> DimLike | None:
    """The integer or size that every element of `item` is; None where that cannot be seen."""
    known = item.literal()
    if isinstance(known, int | Dim):
        return known
    return _of_value(item.value) if item.dtype.is_int else None


def _of_value(value: Scalar) -> DimLike | None:
    if not isinstance(value, Value):
        return value if isinstance(value, int | Dim) else None
    op = value.op
    if isinstance(op, Full):
        return op.value if isinstance(op.value, int | Dim) else None
    if isinstance(op, _SAME):
        return _of_value(op.x) if op.x.dtype.kind in ("int", "bool") else None
    if isinstance(op, Sum):
        each = _of_value(op.x)
        return None if each is None else each * product(op.x.shape[axis] for axis in op.axes)
    if isinstance(op, Add | Sub | Mul):
        x, y = _of_value(op.x), _of_value(op.y)
        if x is None or y is None:
            return None
        return x + y if isinstance(op, Add) else x - y if isinstance(op, Sub) else x * y
    return None
