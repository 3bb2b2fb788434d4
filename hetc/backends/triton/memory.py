"""Memory that launches name before it has addresses: buffers, placed weights, states."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

import numpy as np

from hetc.backends.triton.layouts import Domain
from hetc.bundle.launches import BufferRef, PlacedWeight, Size, WeightRef
from hetc.ir.dims import DimLike, parse_dim
from hetc.ir.types import DTYPES, Array

ALIGNMENT = 256
# How many rows there are of each domain.
ROWS: dict[Domain, Size] = {"tokens": "M", "positions": "S", "sequences": "B"}


def element_bytes(element: str) -> int:
    """Bytes of an element of memory (`bf16`)."""
    return DTYPES[element].bits // 8


def aligned(size: int) -> int:
    """`size` bytes, rounded up to where anything may begin."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def aligned_size(size: DimLike) -> DimLike:
    """A polynomial of bytes with all of its factors rounded up: a multiple of the alignment
    whatever the sizes are."""
    if isinstance(size, int):
        return aligned(size)
    return type(size)(tuple((names, aligned(factor)) for names, factor in size.terms))


@dataclass(frozen=True)
class VirtualBuffer:
    """A buffer without a place: `bytes` is a polynomial of M, B and S."""

    name: str
    element: str
    bytes: DimLike


@dataclass
class Memory:
    """What the launches of one half name; grows while it is lowered."""

    buffers: dict[str, VirtualBuffer] = field(default_factory=dict)
    weights: dict[str, PlacedWeight] = field(default_factory=dict)
    weight_bytes: int = 0

    def buffer(self, element: str, rows: Size, columns: int = 1, name: str = "") -> BufferRef:
        """A new buffer of `rows` (a polynomial of M, B and S) rows of `columns`."""
        name = name or f"b{len(self.buffers)}"
        size = parse_dim(rows) * (columns * element_bytes(element))
        self.buffers[name] = VirtualBuffer(name, element, aligned_size(size))
        return BufferRef(name=name)

    def weight(
        self,
        tensors: tuple[str, ...],
        element: str,
        size: int,
        *,
        transposed: bool = False,
        turn: int = 0,
    ) -> WeightRef:
        """The weights `tensors`, `size` elements in all, behind each other or in turns; once for
        the same."""
        name, nbytes = "+".join(tensors), size * element_bytes(element)
        name = f"transposed {name}" if transposed else name
        name = f"turns of {name}" if turn else name
        return self._place(name, tensors, element, nbytes, transposed=transposed, turn=turn)

    def constant(self, numbers: Array) -> WeightRef:
        """Numbers of the graph itself, as f32; once for the same."""
        raw = np.ascontiguousarray(numbers, "<f4").tobytes()
        data = base64.b64encode(raw).decode()
        for placed in self.weights.values():
            if placed.data == data:
                return WeightRef(name=placed.name)
        name = f"constant{sum(bool(placed.data) for placed in self.weights.values())}"
        return self._place(name, (), "f32", len(raw), data)

    def _place(
        self,
        name: str,
        tensors: tuple[str, ...],
        element: str,
        size: int,
        data: str = "",
        *,
        transposed: bool = False,
        turn: int = 0,
    ) -> WeightRef:
        if name not in self.weights:
            self.weights[name] = PlacedWeight(
                name=name,
                tensors=tensors,
                element=element,
                bytes=size,
                offset=self.weight_bytes,
                data=data,
                transposed=transposed,
                turn=turn,
            )
            self.weight_bytes += aligned(size)
        return WeightRef(name=name)
