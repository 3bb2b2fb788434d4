"""The packed weights: what lies where in the file, and the bytes.

Each block has a region, which a loop has once for each iteration; inside it things lie in the order
in which the code reads them. A matrix [N, K] is cut into tiles of 16 outputs, each of them K steps
of 16 numbers side by side, so that a thread that has some tiles reads one stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from hetc.backends.native.groups import parts_of
from hetc.backends.native.scope import Scope
from hetc.backends.native.ssa import BYTES, HELD, LANES
from hetc.backends.native.tiles import TileForm, tiles_of
from hetc.ir.interpret import WeightLookup
from hetc.ir.op import Value
from hetc.ir.types import Array, DType

ALIGN = 128
# Where a product ends, the code reads some numbers more: they must be there.
SLACK = 4096


@dataclass(frozen=True)
class Matrix:
    """Matrices that multiply one `x`, one below the other, and their biases (f32) behind them."""

    weights: tuple[Value, ...]
    biases: tuple[Value | None, ...]
    form: TileForm

    @property
    def tiles(self) -> tuple[int, ...]:
        """Tiles of each matrix."""
        return tuple(tiles_of(_number(weight.shape[0])) for weight in self.weights)

    @property
    def bias_offset(self) -> int | None:
        """Where the biases begin, if there are any."""
        return self._matrix_bytes if any(bias is not None for bias in self.biases) else None

    @property
    def _matrix_bytes(self) -> int:
        return sum(self.tiles) * self.form.tile_bytes

    @property
    def nbytes(self) -> int:
        biases = 0 if self.bias_offset is None else sum(self.tiles) * LANES * 4
        return self._matrix_bytes + biases

    def pack(self, scope: Scope, iteration: int, weights: WeightLookup) -> Iterator[Array]:
        """The bytes in order, a piece at a time."""

        def evaluate(value: Value) -> Array:
            return scope.evaluate(value, iteration, weights, {})

        for value in self.weights:
            if self.form.format is None:
                yield self.form.pack(evaluate(value))
            else:
                yield self.form.format.pack(*parts_of(value, evaluate))
        if self.bias_offset is not None:
            for bias, tiles in zip(self.biases, self.tiles, strict=True):
                row = np.zeros(tiles * LANES, np.float32)
                if bias is not None:
                    array = scope.evaluate(bias, iteration, weights, {})
                    row[: len(array)] = array
                yield row


@dataclass(frozen=True)
class Table(Matrix):
    """A quantized matrix that is looked up in, and not multiplied by."""


@dataclass(frozen=True)
class Experts:
    """The matrices [E, N, K] of E experts (or [E, K, N]), and behind them their biases [E, N]."""

    weight: Value
    bias: Value | None
    transposed: bool
    form: TileForm

    @property
    def count(self) -> int:
        return _number(self.weight.shape[0])

    @property
    def tiles(self) -> int:
        """Tiles of one expert."""
        return tiles_of(_number(self.weight.shape[2 if self.transposed else 1]))

    @property
    def expert_bytes(self) -> int:
        return self.tiles * self.form.tile_bytes

    @property
    def bias_offset(self) -> int | None:
        """Where the biases begin, if there are any."""
        return None if self.bias is None else self.count * self.expert_bytes

    @property
    def nbytes(self) -> int:
        biases = 0 if self.bias is None else self.count * self.tiles * LANES * 4
        return self.count * self.expert_bytes + biases

    def pack(self, scope: Scope, iteration: int, weights: WeightLookup) -> Iterator[Array]:
        """The bytes in order, an expert at a time."""

        def evaluate(value: Value) -> Array:
            return scope.evaluate(value, iteration, weights, {})

        if self.form.format is None:
            for matrix in evaluate(self.weight):
                yield self.form.pack(matrix.T if self.transposed else matrix)
        else:
            q, scale, more = parts_of(self.weight, evaluate)
            for expert in range(self.count):
                own = None if more is None else more[expert]
                yield self.form.format.pack(q[expert], scale[expert], own)
        if self.bias is not None:
            array = scope.evaluate(self.bias, iteration, weights, {})
            rows = np.zeros((self.count, self.tiles * LANES), np.float32)
            rows[:, : array.shape[1]] = array
            yield rows


@dataclass(frozen=True)
class Rows:
    """A static tensor in row-major order, its numbers as `element`s."""

    value: Value
    element: str

    @property
    def nbytes(self) -> int:
        return _number(self.value.size) * BYTES[self.element]

    def pack(self, scope: Scope, iteration: int, weights: WeightLookup) -> Iterator[Array]:
        array = scope.evaluate(self.value, iteration, weights, {})
        yield array if self.element != "f32" else array.astype(np.float32)


def element_of(dtype: DType) -> str:
    """What a value of `dtype` is held as while the code runs: floats as f32."""
    assert dtype.is_float or dtype.name in HELD, f"no {dtype} is computed"
    return "f32" if dtype.is_float else dtype.name


@dataclass(frozen=True)
class Positions:
    """A positional tensor as a table: its value where T is every position there can be."""

    value: Value
    positions: int
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * BYTES[self.element]

    @property
    def element(self) -> str:
        return element_of(self.value.dtype)

    def pack(self, scope: Scope, iteration: int, weights: WeightLookup) -> Iterator[Array]:
        sizes = {"B": 1, "T": self.positions, "P": 0}
        array = scope.evaluate(self.value, iteration, weights, sizes)
        yield array.astype(np.float32) if self.element == "f32" else array


Item = Matrix | Experts | Rows | Positions


@dataclass
class Region:
    """The items of one block, by offset; `bytes` lie between two iterations."""

    scope: Scope
    items: dict[Item, int] = field(default_factory=dict)
    bytes: int = 0

    def place(self, item: Item) -> int:
        """Where `item` lies in the region; it is put at the end where it is new."""
        if item not in self.items:
            self.items[item] = self.bytes
            self.bytes += -(-item.nbytes // ALIGN) * ALIGN
        return self.items[item]


@dataclass
class Storage:
    """The regions of all blocks, one after the other."""

    regions: list[Region] = field(default_factory=list)

    def start(self, region: Region) -> int:
        """The offset of a region in the file, once all items of those before it are placed."""
        total = 0
        for other in self.regions:
            if other is region:
                break
            total += other.bytes * other.scope.run.repeat
        return total

    @property
    def nbytes(self) -> int:
        return sum(region.bytes * region.scope.run.repeat for region in self.regions) + SLACK

    @property
    def elements(self) -> frozenset[str]:
        """The element types of all matrices; `q8`, `q4` of quantized ones."""
        items = (item for region in self.regions for item in region.items)
        forms = [item.form for item in items if isinstance(item, Matrix | Experts)]
        return frozenset(
            form.element if form.format is None else f"q{form.format.bits}" for form in forms
        )

    @property
    def matrix_bytes(self) -> int:
        """The bytes of all matrices of products: what a token of a dense model reads."""
        return sum(
            item.nbytes * region.scope.run.repeat
            for region in self.regions
            for item in region.items
            if isinstance(item, Matrix) and not isinstance(item, Table)
        )

    def pack(self, weights: WeightLookup) -> Iterator[memoryview]:
        """The whole file, a piece at a time."""
        for region in self.regions:
            for iteration in range(region.scope.run.repeat):
                for item in region.items:
                    yield from _padded(item.pack(region.scope, iteration, weights), item.nbytes)
        yield memoryview(bytes(SLACK))


def _padded(pieces: Iterator[Array], expected: int) -> Iterator[memoryview]:
    written = 0
    for piece in pieces:
        data = memoryview(np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data)
        written += data.nbytes
        yield data
    assert written == expected, "an item has the bytes that were planned for it"
    yield memoryview(bytes(-written % ALIGN))


def _number(size: object) -> int:
    assert isinstance(size, int), "what is stored has a known size"
    return size
