"""Runs kernels on a GPU through Triton's own launcher: the other side of `interpreting.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hetc.backends.triton.source import load_function
from hetc.ir.types import Array
from tests.backends.triton.interpreting import Argument, Tiled

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Device:
    """A torch device, and how kernels are compiled for it; sources are written to `folder`."""

    folder: Path
    name: str = "cuda"
    warps: int = 4
    stages: int = 3

    def run(
        self,
        source: str,
        symbol: str,
        grid: Sequence[int],
        arguments: Sequence[Argument],
        constants: Mapping[str, int | float | bool] | None = None,
    ) -> None:
        """Launch `symbol` of `source` and wait; arrays are changed in place."""
        function = load_function(source, symbol, self.folder)
        passed = [self._passed(x) for x in arguments]
        options = {"num_warps": self.warps, "num_stages": self.stages}
        function[tuple(grid)](*passed, **(constants or {}), **options)
        for given, found in zip(arguments, passed, strict=True):
            if isinstance(given, np.ndarray):
                given[...] = _bits(found).view(given.dtype).reshape(given.shape)

    def _passed(self, x: Argument) -> Any:
        from triton.tools.tensor_descriptor import TensorDescriptor

        if isinstance(x, Tiled):
            assert isinstance(x.base, np.ndarray)
            matrix = self._tensor(x.base).view(x.shape)
            return TensorDescriptor.from_tensor(matrix, list(x.tile))
        return self._tensor(x) if isinstance(x, np.ndarray) else x

    def _tensor(self, x: Array) -> torch.Tensor:
        import torch

        element = getattr(torch, x.dtype.name)
        flat = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
        return torch.from_numpy(flat.copy()).to(self.name).view(element)


def _bits(x: Any) -> Array:
    import torch

    bits: Array = x.view(torch.uint8).cpu().numpy()
    return bits
