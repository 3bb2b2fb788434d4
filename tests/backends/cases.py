"""For every op kind, random instances of it with operands of random, partly symbolic, shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hetc.ir.dims import DimLike, evaluate, symbol
from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.ir.types import BF16, BOOL, F16, F32, F64, I8, I16, I32, I64, U8, Array, DType, TensorType

B, S = symbol("B"), symbol("S")
Shape = tuple[DimLike, ...]
FLOATS = (F32, F64, BF16, F16)
NUMBERS = (F32, F64, BF16, I64, I32, I16, I8, U8)


class Draw:
    """Random choices, and operands with their data."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.sizes = {"B": self.upto(1, 3), "S": self.upto(1, 6)}
        self.values: list[Value] = []
        self.arrays: list[Array] = []

    def upto(self, low: int, high: int) -> int:
        """A number from `low` to `high`, both included."""
        return int(self.rng.integers(low, high + 1))

    def pick(self, *items: Any) -> Any:
        """One of `items`."""
        return items[self.upto(0, len(items) - 1)]

    def shape(self) -> Shape:
        """One to four axes, some of them symbols."""
        shape: Shape = self.pick((B, S, 4), (S, 6), (3,), (B, 2, S, 3), (5, 4))
        return shape

    def data(self, array: Array, shape: Shape, dtype: DType) -> Value:
        """An operand with this data."""
        value = Value(TensorType(dtype, shape), name=f"x{len(self.values)}")
        self.values.append(value)
        self.arrays.append(np.asarray(array).astype(dtype.numpy))
        return value

    def x(self, shape: Shape, dtype: DType = F32, low: float = -2, high: float = 2) -> Value:
        """An operand with random numbers."""
        sizes = self.numbers(shape)
        if dtype is BOOL:
            return self.data(self.rng.random(sizes) < 0.5, shape, dtype)
        if dtype.is_int:
            bottom = max(int(low), 0) if dtype is U8 else int(low)
            return self.data(self.rng.integers(bottom, int(high) + 1, sizes), shape, dtype)
        return self.data(self.rng.uniform(low, high, sizes), shape, dtype)

    def ids(self, shape: Shape, count: int, *, negative: bool = False) -> Value:
        """Indices into `count` things."""
        low = -count if negative else 0
        numbers = self.rng.integers(low, count, self.numbers(shape))
        return self.data(numbers, shape, self.pick(I64, I32))

    def numbers(self, shape: Shape) -> tuple[int, ...]:
        """`shape` in numbers."""
        return tuple(evaluate(dim, self.sizes) for dim in shape)


Make = Callable[[Draw, Any], Any]
CASES: dict[str, list[Make]] = {}


def case(*kinds: str) -> Callable[[Make], Make]:
    """Function decorator: registers a maker of random instances; it gets the class of the op."""

    def register(make: Make) -> Make:
        for kind in kinds:
            CASES.setdefault(kind, []).append(make)
        return make

    return register


def one_op(op: Op, draw: Draw) -> Graph:
    """The graph of one op on its operands; B and S are shown by an input of their own."""
    shown = Value(TensorType(F32, (B, S)), name="shown")
    names = tuple(f"y{index}" for index in range(len(op.results)))
    return Graph("one", (*draw.values, shown), (op,), op.results, names)


def inputs_of(draw: Draw) -> list[Array]:
    """The data for `one_op`'s inputs."""
    return [*draw.arrays, np.zeros((draw.sizes["B"], draw.sizes["S"]), np.float32)]
