"""Where an op uses the length of the sequence: in its sizes, or as a number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hetc.ir.dims import Dim, DimLike, symbols_of
from hetc.ir.op import Op, Value
from hetc.ir.types import TensorType


def mentions_length(op: Op) -> bool:
    """Whether a size of an operand or an attribute holds the length."""
    return holds_length(getattr(op, spec.name) for spec in op.signature)


def holds_length(parts: Iterable[Any]) -> bool:
    """Whether a dim in `parts`, or in the shape of one of them, holds the length."""
    items = list(parts)
    while items:
        item = items.pop()
        if isinstance(item, (Value, TensorType)):
            items.extend(item.shape)
        elif isinstance(item, tuple):
            items.extend(item)
        elif isinstance(item, Dim) and "S" in item.symbols:
            return True
    return False


def counts_length(op: Op) -> bool:
    """Whether a literal operand of `op` is the length."""
    items = (getattr(op, spec.name) for spec in op.signature if spec.role == "scalar")
    return any(not isinstance(item, Value) and "S" in symbols_of(as_dim(item)) for item in items)


def as_dim(item: Any) -> DimLike:
    """A literal as a dim; what is no whole number holds no symbol."""
    return 0 if isinstance(item, (float, bool)) else item
