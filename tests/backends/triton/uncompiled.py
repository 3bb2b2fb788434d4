"""Kernels of a launch plan that nothing has compiled: sources, and no cubins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hetc.backends.triton.build import FOLDER, Built
from hetc.backends.triton.kernel import Kernel
from hetc.bundle import launches
from hetc.bundle.launches import Config


def uncompiled(kernels: Iterable[Kernel], *_: Any) -> Built:
    """In the place of `build_kernels`."""
    distinct = {kernel.id: kernel for kernel in kernels}
    files = {_source(kernel): kernel.source.encode() for kernel in distinct.values()}
    return Built({name: _entry(kernel) for name, kernel in distinct.items()}, files, (), "", "")


def _source(kernel: Kernel) -> str:
    return f"{FOLDER}/{kernel.id}.py"


def _entry(kernel: Kernel) -> launches.Kernel:
    constants = dict(kernel.constants or {})
    return launches.Kernel(
        symbol=kernel.symbol,
        source=_source(kernel),
        parameters=kernel.parameters,
        configs=tuple(
            Config(constants=constants | each.constants, warps=each.warps, stages=each.stages)
            for each in kernel.configs
        ),
        builds=(),
        choices={},
    )
