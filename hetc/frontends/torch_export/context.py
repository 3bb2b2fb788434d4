"""What a table function can ask: the current node's type and place, and ways to add ops."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hetc.frontends.torch_export.dtypes import category, dtype_of_torch, wider
from hetc.frontends.torch_export.symbols import Symbols
from hetc.ir.dims import Dim, DimLike
from hetc.ir.graph import GraphBuilder
from hetc.ir.op import Op, Value
from hetc.ir.ops.elementwise import Cast
from hetc.ir.ops.shape import Broadcast, Reshape, Slice, Transpose
from hetc.ir.types import BOOL, F32, I64, DType, Shape

if TYPE_CHECKING:
    from torch.fx import Node


@dataclass(frozen=True)
class Pairs:
    """A complex tensor as two real ones; only rotary embeddings use them."""

    real: Value
    imag: Value


class Unsupported(ValueError):
    """A form of an op that cannot be imported and must not be kept as it is; the text says why."""


@dataclass
class Context:
    """State of one import, shared with the table functions."""

    symbols: Symbols
    builder: GraphBuilder
    loc: str = ""
    node: Node | None = None
    values: dict[Node, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def op(self, make: Callable[..., Op], *operands: Any, **attributes: Any) -> Value:
        """Add an op at the current place and return its first result."""
        return self.builder.add(make(*operands, loc=self.loc, **attributes))

    def ops(self, make: Callable[..., Op], *operands: Any, **attributes: Any) -> tuple[Value, ...]:
        """Add an op at the current place and return all of its results."""
        op = make(*operands, loc=self.loc, **attributes)
        self.builder.add(op)
        return op.results

    @property
    def val(self) -> Any:
        """What PyTorch recorded of the current node's result: a fake tensor, or a tuple of them."""
        assert self.node is not None
        return self.node.meta["val"]

    @property
    def shape(self) -> Shape:
        """Shape of the current node's result."""
        return self.shape_of(self.val)

    @property
    def dtype(self) -> DType:
        """Element type of the current node's result; of its parts, where it is complex."""
        return dtype_of_torch(self.val.dtype)

    def shape_of(self, fake: Any) -> Shape:
        """Shape of a fake tensor; raises NotAPolynomial."""
        dim = self.symbols.dim
        return tuple([size if type(size) is int else dim(size) for size in fake.shape])

    def like(self, x: Value, fake: Any) -> Value:
        """`x` in the element type of a recorded result."""
        return self.tensor(x, dtype_of_torch(fake.dtype))

    def tensor(self, x: Value, dtype: DType) -> Value:
        """`x` in another dtype."""
        return x if x.dtype is dtype else self.op(Cast, x, dtype=dtype)

    def cast(self, x: Any, dtype: DType) -> Any:
        """As `tensor`; literals and dims adopt their neighbour's type and stay as they are, but for
        integers beyond it, which wrap."""
        if isinstance(x, Value):
            return self.tensor(x, dtype)
        return wrapped(x, dtype) if type(x) is int and dtype.is_int else x

    def common(self, *items: Any) -> tuple[Any, ...]:
        """Operands of a comparison, promoted as PyTorch does.

        Tensors of rank 0 and literals count by category only.
        """
        values = [item for item in items if isinstance(item, Value)]
        dtype = _promoted([v.dtype for v in values if v.rank])
        scalars = _promoted(
            [v.dtype for v in values if not v.rank]
            + [_literal(i) for i in items if not isinstance(i, Value)]
        )
        if dtype is None or (scalars is not None and category(scalars) > category(dtype)):
            dtype = scalars
        assert dtype is not None
        return tuple(self.cast(item, dtype) for item in items)

    def reshape(self, x: Value, shape: Iterable[DimLike]) -> Value:
        """`x` under another shape; `x` itself where that changes nothing."""
        wanted = tuple(shape)
        return x if x.shape == wanted else self.op(Reshape, x, wanted)

    def move(self, x: Value, perm: Iterable[int]) -> Value:
        """`x` with its axes in another order; `x` itself where that changes nothing."""
        order = tuple(perm)
        return x if order == tuple(range(x.rank)) else self.op(Transpose, x, order)

    def broadcast(self, x: Value, shape: Iterable[DimLike]) -> Value:
        """`x` repeated to a shape; `x` itself where that changes nothing."""
        wanted = tuple(shape)
        return x if x.shape == wanted else self.op(Broadcast, x, wanted)

    def note(self, sentence: str) -> None:
        """Tell the user, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def part(self, x: Value, axis: int, start: DimLike, length: DimLike) -> Value:
        """`length` elements of one axis from `start`; `x` itself where that is all."""
        if start == 0 and length == x.shape[axis]:
            return x
        return self.op(Slice, x, axis, start, start + length)


def wrapped(number: int, dtype: DType) -> int:
    """An integer in an integer type, as C converts it."""
    ends = np.iinfo(dtype.numpy)
    return (number - ends.min) % (1 << dtype.bits) + int(ends.min)


def _promoted(dtypes: list[DType]) -> DType | None:
    result: DType | None = None
    for dtype in dtypes:
        result = dtype if result is None else wider(result, dtype)
    return result


def _literal(item: Any) -> DType:
    if isinstance(item, bool):
        return BOOL
    return I64 if isinstance(item, int | Dim) else F32
