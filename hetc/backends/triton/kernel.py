"""A kernel before it is compiled: Triton source, parameters, and the configurations to choose from.

Each family of kernels is a module with a frozen dataclass that says what is computed; its
`kernel()` renders the template, and its `launch(...)` binds buffers to it. Equal descriptions give
equal source, so that equal layers are compiled once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from hetc.bundle.launches import Config, Parameter


@dataclass(frozen=True)
class Kernel:
    """The Triton function `symbol` in `source`, a whole Python module.

    `parameters` are what a launch passes; `constants` are constexpr parameters with one value in
    all configurations, those of a `Config` differ among them. `work` tells the cost model what a
    launch with a configuration costs.
    """

    symbol: str
    source: str
    parameters: tuple[Parameter, ...]
    configs: tuple[Config, ...]
    work: Work
    constants: Mapping[str, int] | None = None

    @property
    def id(self) -> str:
        """A name that equal kernels share: the symbol and the beginning of a digest."""
        told = repr((self.source, self.parameters, sorted((self.constants or {}).items())))
        return f"{self.symbol}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Tile:
    """What one block of a launch does: `flops` on tensor cores of `element`, bytes from and to main
    memory, `shared_bytes` of shared memory, and accumulator registers of a thread. `exponentials`
    are taken between its products, which wait for them."""

    flops: float
    bytes: float
    shared_bytes: int
    accumulators: int
    exponentials: float = 0.0


class Work(Protocol):
    """The work of a launch, for the cost model: how many blocks, and what each of them does."""

    @property
    def element(self) -> str:
        """What tensor cores multiply."""
        ...

    def tile(self, config: Config, rows: int) -> Tile:
        """One block of a launch on `rows` rows."""
        ...

    def blocks(self, config: Config, rows: int) -> int:
        """Blocks of a launch on `rows` rows."""
        ...
