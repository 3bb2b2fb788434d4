"""What the importer knows of a tensor: its type, often its elements, and its IR value once
something reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hetc.errors import InputError
from hetc.frontends.onnx.nodes import module_path_of_weight
from hetc.ir.dims import Dim, DimLike
from hetc.ir.model import WeightData
from hetc.ir.op import Value
from hetc.ir.ops.shape import Concat, Reshape
from hetc.ir.ops.source import Constant, Full, Weight
from hetc.ir.types import I64, Array, DType, TensorType

# Shape vectors and scalars are followed by their elements; what is larger is data.
MAX_KNOWN = 64


class Item:
    """One tensor of the ONNX graph.

    `known` holds its elements where the importer can tell them: an array of the tensor's dtype, or
    an object array of ints and Dims where some depend on the sizes of the inputs (the result of
    `Shape`, say). `value` is the IR value, made on first use, so that arithmetic on shapes leaves
    no ops behind. `narrow`: the file stores it in 2 or 4 bits, for which the IR has bytes.
    """

    __slots__ = ("_value", "known", "narrow", "type")

    def __init__(
        self, type: TensorType, value: Value | None = None, known: Array | None = None
    ) -> None:
        self.type = type
        self.known = known
        self.narrow = False
        self._value = value

    @property
    def shape(self) -> tuple[DimLike, ...]:
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def rank(self) -> int:
        return len(self.type.shape)

    @property
    def symbolic(self) -> bool:
        """Whether the elements are known, and some of them only as a function of sizes."""
        return self.known is not None and self.known.dtype == object

    @property
    def value(self) -> Value:
        if self._value is None:
            self._value = self.materialize()
        return self._value

    @property
    def loc(self) -> str:
        """The module path of the op that made it; "" where no op did."""
        made = self._value.op if self._value is not None else None
        return made.loc if made is not None else ""

    def materialize(self) -> Value:
        if self.known is None:
            raise InputError(
                "HETC-I306", "a tensor is used that has no value", found=str(self.type)
            )
        return _source(self.known, self.type)

    def literal(self) -> float | int | bool | Dim | None:
        """The one element of a tensor of size 1, where it is known."""
        if self.known is None or self.known.size != 1:
            return None
        element = self.known.reshape(-1)[0]
        return element if isinstance(element, (Dim, int)) else _plain(element, self.dtype)


class WeightItem(Item):
    """A tensor whose data stays in the model's files; `transposed_from` is the weight that it is a
    view of, if any.
    """

    __slots__ = ("data", "name", "transposed_from")

    def __init__(
        self, name: str, data: WeightData, transposed_from: WeightItem | None = None
    ) -> None:
        super().__init__(TensorType(data.dtype, data.shape))
        self.name = name
        self.data = data
        self.transposed_from = transposed_from

    def materialize(self) -> Value:
        return Weight(self.name, self.type, loc=module_path_of_weight(self.name)).result


def is_stored(item: Item) -> bool:
    """Whether the elements are in the file, or known otherwise."""
    return isinstance(item, WeightItem) or item.known is not None


def loader(item: Item) -> Callable[[], Array]:
    """What gives the elements of a weight, or of a tensor whose elements are known."""
    if isinstance(item, WeightItem):
        return item.data.load
    known = item.known
    assert known is not None, "a weight or known elements"
    return lambda: known


class SequenceItem(tuple[Item, ...]):
    """An ONNX sequence of tensors whose length is known."""

    __slots__ = ()


def item_of(elements: Array | Sequence[Any], dtype: DType) -> Item:
    """A tensor of these elements (numbers, ints or Dims)."""
    array = np.asarray(elements, dtype=object) if not isinstance(elements, np.ndarray) else elements
    shape = array.shape
    if array.dtype == object and not any(isinstance(element, Dim) for element in array.flat):
        array = array.astype(dtype.numpy)
    elif array.dtype != object:
        array = array.astype(dtype.numpy, copy=False)
    return Item(TensorType(dtype, shape), known=array)


def dims_item(dims: Sequence[DimLike]) -> Item:
    """A shape vector, i64."""
    array = np.empty(len(dims), dtype=object)
    array[:] = list(dims)
    return item_of(array, I64)


def _plain(element: Any, dtype: DType) -> float | int | bool:
    if dtype.kind == "bool":
        return bool(element)
    return int(element) if dtype.is_int else float(element)


def _source(known: Array, type: TensorType) -> Value:
    """The op that makes these elements: a literal, or fills whose values are sizes."""
    if known.dtype == object:
        parts = [Full(element, (1,), type.dtype).result for element in known.flat]
        if not type.shape:
            return Full(known.item(), (), type.dtype).result
        flat = parts[0] if len(parts) == 1 else Concat(tuple(parts), 0).result
        return flat if known.ndim == 1 else Reshape(flat, type.shape).result
    if type.shape and (known.size == 0 or (known == known.flat[0]).all()):
        fill = _plain(known.flat[0], type.dtype) if known.size else 0
        return Full(fill, type.shape, type.dtype).result
    return Constant(_nested(known, type.dtype), type.dtype).result


def _nested(array: Array, dtype: DType) -> Any:
    if array.ndim:
        return tuple(_nested(part, dtype) for part in array)
    return _plain(array[()], dtype)


def broadcastable_literal(item: Item, other: Item) -> float | int | bool | Dim | None:
    """The element of `item` where an op with `other` may take it as a literal and still have the
    same shape.
    """
    return item.literal() if item.rank <= other.rank else None


def transpose_data(data: WeightData, perm: tuple[int, ...]) -> WeightData:
    """`data` with its axes permuted when it is loaded; a view, not a copy."""
    shape = tuple(data.shape[axis] for axis in perm)
    return WeightData(shape, data.dtype, lambda: np.transpose(data.load(), perm))
