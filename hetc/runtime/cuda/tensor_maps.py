"""Tensor maps: matrices as kernels are told of them, for the tensor memory accelerator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hetc.bundle.launches import Box
from hetc.runtime.cuda.driver import TENSOR_MAP_BYTES, Driver

# Of the weights and of the shapes used last; all are made anew when there are more.
_MOST_KEPT = 4096


@dataclass(frozen=True)
class Mapped:
    """A matrix [rows, columns] of `element` at `address` of the GPU, row-major without gaps, copied
    `box` by box."""

    address: int
    element: str
    rows: int
    columns: int
    box: Box


class TensorMaps:
    """The tensor maps of a bundle's matrices; each is made once."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._made: dict[Mapped, bytes] = {}

    def lay_out(self, matrices: Iterable[Mapped]) -> tuple[NDArray[np.uint8], Mapping[Mapped, int]]:
        """Memory with the maps of `matrices`, and where in this process each of them is."""
        distinct = list(dict.fromkeys(matrices))
        if len(self._made) + len(distinct) > _MOST_KEPT:
            self._made.clear()
        for matrix in distinct:
            if matrix not in self._made:
                self._made[matrix] = self._driver.tensor_map(
                    matrix.address,
                    matrix.element,
                    (matrix.rows, matrix.columns),
                    (matrix.box.rows, matrix.box.columns),
                    matrix.box.swizzle,
                )
        raw = b"".join(self._made[matrix] for matrix in distinct)
        # Writable, as its address is handed on.
        held = np.frombuffer(bytearray(raw), np.uint8)
        first = held.ctypes.data if distinct else 0
        return held, {
            matrix: first + TENSOR_MAP_BYTES * number for number, matrix in enumerate(distinct)
        }
