"""In which order the axes of a tensor lie in memory."""

from __future__ import annotations

from typing import Any


def axes_in_memory(fake: Any) -> tuple[int, ...]:
    """The axes of a fake tensor from the slowest to the fastest; 0, 1, 2, ... for a contiguous one.

    Who makes a tensor with its axes in this order and hands it out with them in their own gives
    the strides that PyTorch would.
    """
    sizes = [_number(size) for size in fake.shape]
    strides = [_number(stride) for stride in fake.stride()]
    plain = tuple(range(len(sizes)))
    expected = 1
    for axis in reversed(plain):
        if sizes[axis] != 1 and strides[axis] != expected:
            break
        expected *= sizes[axis]
    else:
        return plain
    return tuple(sorted(plain, key=lambda axis: (-strides[axis], -sizes[axis], axis)))


def _number(size: Any) -> int:
    """Any number that a size could be: the order of strides is the same for all above 1."""
    if isinstance(size, int):
        return size
    expr = size.node.expr
    return int(expr.subs(dict.fromkeys(expr.free_symbols, _ANY)))


_ANY = 97
