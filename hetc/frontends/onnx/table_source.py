"""Operators that make tensors from attributes and sizes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hetc.frontends.onnx.context import Context, Unsupported, onnx_op
from hetc.frontends.onnx.item import MAX_KNOWN, Item, item_of
from hetc.frontends.onnx.known import elements
from hetc.frontends.onnx.nodes import Node
from hetc.frontends.onnx.table_shape import reshaped
from hetc.frontends.onnx.tensors import PACKED, dtype_named, weight_data
from hetc.ir.dims import Dim, DimLike, exact_div, product
from hetc.ir.model import WeightData
from hetc.ir.ops import elementwise as ew
from hetc.ir.ops.shape import Slice, normalize_axis
from hetc.ir.ops.source import Full, Iota
from hetc.ir.types import BOOL, I32, I64, Array, DType, dtype_of

if TYPE_CHECKING:
    from onnx import TensorProto

# Tables that are worked out at import: a damaged file may ask for any number of elements.
_MOST_ELEMENTS = 2**26
# The IR's range counts in integers; another is data.
_MAX_FRACTIONS = 2**20


def initializer(ctx: Context, tensor: TensorProto, folder: Path | None) -> Item:
    """A tensor of the file, whose external data lies in `folder`."""
    item = stored(ctx, tensor.name, weight_data(tensor, folder))
    item.narrow = tensor.data_type in PACKED
    return item


def stored(ctx: Context, name: str, data: WeightData) -> Item:
    """A tensor with its data: a few integers, or one number, are known at once; everything else is
    a weight.
    """
    size = int(np.prod(data.shape, dtype=object))
    # Narrow integers are quantized weights, not sizes or axes.
    if size <= (MAX_KNOWN if data.dtype in (I64, I32, BOOL) else 1):
        return item_of(data.load(), data.dtype)
    return ctx.weight(name, data)


def literal(ctx: Context, name: str, array: Array, dtype: DType | None = None) -> Item:
    """A tensor that stands in the model's text."""
    typed = dtype or dtype_of(array)
    return stored(ctx, name, WeightData(array.shape, typed, lambda: array))


def require_small(*sizes: int) -> None:
    """Raise Unsupported unless a table of these sizes may be worked out at import."""
    if any(size < 0 for size in sizes) or math.prod(sizes) > _MOST_ELEMENTS:
        raise Unsupported(f"a table of {' x '.join(map(str, sizes))} elements")


@onnx_op("Constant")
def constant(ctx: Context, node: Node) -> Item:
    name = node.outputs[0]
    numbers: tuple[tuple[str, Any], ...] = (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    )
    if isinstance(node.get("value"), np.ndarray):
        return literal(ctx, name, node.get("value"))
    for attribute, dtype in numbers:
        if node.get(attribute) is not None:
            return literal(ctx, name, np.asarray(node.get(attribute), dtype))
    raise Unsupported("a constant that is no tensor of numbers")


@onnx_op("ConstantOfShape")
def constant_of_shape(ctx: Context, node: Node, shape: Item) -> Item:
    value = node.get("value", np.zeros(1, np.float32))
    dims = ctx.dims(shape, "shape")
    dtype = dtype_of(value)
    element = value.reshape(-1)[0].item()
    size = product(dims)
    if isinstance(size, int) and size <= MAX_KNOWN:
        return item_of(np.full([int(str(dim)) for dim in dims], element, dtype.numpy), dtype)
    return ctx.emit(Full, element, dims, dtype)


@onnx_op("Range")
def range_(ctx: Context, node: Node, start: Item, limit: Item, delta: Item) -> Item:
    first, last, step = (
        _whole(*ctx.dims(item, "bounds of a range")) for item in (start, limit, delta)
    )
    dtype = start.dtype
    if step == 0:
        raise ValueError("a range by 0")
    if isinstance(first, int) and isinstance(last, int) and isinstance(step, int):
        count = max(0, -((first - last) // step))
        if count <= MAX_KNOWN:
            return item_of(first + np.arange(count) * step, dtype)
        return ctx.emit(Iota, count, start=first, step=step, dtype=dtype)
    if not isinstance(first, Dim) and not isinstance(last, Dim) and not isinstance(step, Dim):
        fractions = max(0, math.ceil((last - first) / step))
        if fractions > _MAX_FRACTIONS:
            raise Unsupported(f"a range of {fractions} fractions")
        numbers = (first + np.arange(fractions) * step).astype(dtype.numpy)
        return literal(ctx, node.outputs[0], numbers, dtype)
    if isinstance(first, float) or isinstance(last, float) or not isinstance(step, int):
        raise Unsupported(f"a range by {step}")
    size: DimLike = last - first if step == 1 else exact_div(last - first, step)
    return ctx.emit(Iota, size, start=first, step=step, dtype=dtype)


def _whole(bound: DimLike | float) -> DimLike | float:
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


@onnx_op("Trilu")
def trilu(ctx: Context, node: Node, x: Item, k: Item | None = None) -> Item:
    given = elements(k, (0,))
    if given is None:
        raise Unsupported("a diagonal that depends on data")
    rows, columns = x.shape[-2:]
    row = reshaped(ctx, ctx.emit(Iota, rows), (rows, 1))
    column = ctx.emit(Iota, columns)
    diagonal = ctx.emit(ew.Add, row, given[0]) if given[0] else row
    kept = ctx.emit(ew.Ge if node.get("upper", 1) else ew.Le, column, diagonal)
    return ctx.emit(ew.And, x, kept) if x.dtype is BOOL else ctx.emit(ew.Where, kept, x, 0)


@onnx_op("EyeLike")
def eye_like(ctx: Context, node: Node, x: Item) -> Item:
    rows, columns = x.shape
    row = reshaped(ctx, ctx.emit(Iota, rows), (rows, 1))
    column = ctx.emit(ew.Sub, ctx.emit(Iota, columns), node.get("k", 0))
    dtype = dtype_named(node.get("dtype"), node.title) if node.get("dtype") else x.dtype
    return ctx.emit(ew.Cast, ctx.emit(ew.Eq, row, column), dtype)


@onnx_op("OneHot")
def one_hot(ctx: Context, node: Node, ids: Item, depth: Item, values: Item) -> Item:
    (count,) = ctx.dims(depth, "depth")
    count = int(count) if isinstance(count, float) else count
    axis = normalize_axis(node.get("axis", -1), ids.rank + 1)
    off, on = (ctx.emit(Slice, values, 0, i, i + 1) for i in range(2))
    if not ids.dtype.is_int:
        ids = ctx.emit(ew.Cast, ids, I64)
    negative = ctx.emit(ew.Lt, ids, 0)
    counted = ctx.emit(ew.Where, negative, ctx.emit(ew.Add, ids, count), ids)
    wrapped = reshaped(ctx, counted, (*ids.shape[:axis], 1, *ids.shape[axis:]))
    places = reshaped(
        ctx, ctx.emit(Iota, count, dtype=ids.dtype), (count, *(1 for _ in ids.shape[axis:]))
    )
    return ctx.emit(ew.Where, ctx.emit(ew.Eq, wrapped, places), on, off)
