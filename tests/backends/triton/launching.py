"""One launch of one kernel in the interpreter, as a launch plan would have it."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from hetc.backends.triton.kernel import Kernel
from hetc.bundle.launches import BufferRef, Config, Extent, InputRef, Launch, SizeOf, StateRef
from hetc.runtime.handoff import size_of
from tests.backends.triton.interpreting import Argument, Array, Interpreter, passed


def run_launch(
    interpreter: Interpreter,
    kernel: Kernel,
    launch: Launch,
    arrays: Mapping[str, Array],
    sizes: Mapping[str, int],
    config: Config | None = None,
) -> None:
    """Run `launch` of `kernel` on `arrays`, by the names of its buffers, states and inputs, which
    it changes. `sizes` are those of M, B and S; without a `config` it is the kernel's first."""
    config = config or kernel.configs[0]

    def number(extent: Extent) -> int:
        by = extent.by if isinstance(extent.by, int) else config.constants[extent.by]
        return -(-size_of(extent.size, sizes, at=launch.kernel) // by)

    def argument(told: object) -> Argument:
        match told:
            case SizeOf(size=size):
                return size_of(size, sizes, at=launch.kernel)
            case BufferRef(name=name) | StateRef(name=name) | InputRef(name=name):
                return arrays[name]
            case _:
                raise AssertionError(f"no test passes {told}")

    assert launch.kernel == kernel.id
    assert len(launch.arguments) == len(kernel.parameters)
    grid = [prod(map(number, axis)) for axis in launch.grid]
    arguments = [argument(told) for told in launch.arguments]
    for parameter, given in zip(kernel.parameters, arguments, strict=True):
        assert parameter.type.startswith("*") == (not isinstance(given, int)), parameter.name
    constants = dict(kernel.constants or {}) | config.constants

    def size(name: str) -> int:
        return size_of(name, sizes, at=launch.kernel)

    told = passed(kernel.parameters, arguments, constants, size)
    interpreter.run(kernel.source, kernel.symbol, grid, told, constants)
