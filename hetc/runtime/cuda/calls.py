"""The launches of a plan as they are made for given sizes: addresses, numbers, grids."""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from hetc.bundle.launches import (
    Argument,
    BufferRef,
    Extent,
    InputRef,
    Launch,
    LaunchPlan,
    Parameter,
    SizeOf,
    StateRef,
    WeightRef,
)
from hetc.errors import RuntimeFault
from hetc.runtime.cuda.driver import Driver
from hetc.runtime.cuda.kernels import Function, Kernels
from hetc.runtime.cuda.layout import Layout, Span
from hetc.runtime.cuda.plan_file import bad_plan

# CUDA C++ programming guide, "Technical Specifications per Compute Capability".
_MOST_BLOCKS = (2**31 - 1, 65535, 65535)
_LARGEST = {"i32": 2**31 - 1, "i64": 2**63 - 1, "fp32": 2**24}
# Two addresses of scratch memory that Triton's kernels take after their own parameters; no kernel
# of a plan uses any.
_TRAILING = (0, 0)


@dataclass(frozen=True)
class Memory:
    """Where on the GPU things begin: arena, states and inputs, and every weight by name."""

    arena: int
    states: int
    inputs: int
    weights: Mapping[str, int]


class Call:
    """One launch with all that it needs; it may be made any number of times."""

    def __init__(self, function: Function, grid: tuple[int, int, int], values: list[int]) -> None:
        self.function = function
        self.grid = grid
        # Every value has eight bytes of its own, of which the driver reads as many as its parameter
        # has: they come first, since CUDA's hosts are little-endian.
        self._values = (ctypes.c_uint64 * len(values))(*values)
        base, step = ctypes.addressof(self._values), ctypes.sizeof(ctypes.c_uint64)
        places = (base + step * index for index in range(len(values)))
        self._pointers = (ctypes.c_void_p * len(values))(*places)
        self._parameters = ctypes.addressof(self._pointers)

    def launch(self, driver: Driver, stream: int) -> None:
        """Launch it, in the order of `stream`."""
        build = self.function.build
        driver.launch(
            self.function.handle,
            self.grid,
            build.threads,
            build.shared_bytes,
            stream,
            self._parameters,
        )


@dataclass(frozen=True)
class Calls:
    """All launches of a plan for one layout, in order; `zeroed` are spans of the GPU that are
    filled with zeros before the launch of that number."""

    layout: Layout
    memory: Memory
    calls: tuple[Call, ...]
    zeroed: Mapping[int, tuple[Span, ...]]

    def make(self, first: int, last: int, driver: Driver, stream: int) -> None:
        """Make the launches from `first` to `last`, both included."""
        for index in range(first, last + 1):
            for span in self.zeroed.get(index, ()):
                driver.fill(span.start, 0, span.size, stream)
            self.calls[index].launch(driver, stream)

    def span(self, name: str) -> Span:
        """Where on the GPU a buffer or state is."""
        own = self.layout.buffers.get(name)
        if own is not None:
            return Span(self.memory.arena + own.start, own.size)
        own = self.layout.states[name]
        return Span(self.memory.states + own.start, own.size)


def prepare_calls(plan: LaunchPlan, layout: Layout, memory: Memory, kernels: Kernels) -> Calls:
    """Everything that the launches of a plan need for one layout in one place.

    Raises RuntimeFault HETC-R054 for a grid that no GPU has or a reference beyond its buffer, and
    R058 where a launch breaks what its kernel was promised.
    """
    zeroed: dict[int, tuple[Span, ...]] = {}
    for buffer in plan.buffers:
        own = layout.buffers[buffer.name]
        if buffer.zeroed and own.size:
            span = Span(memory.arena + own.start, own.size)
            zeroed[buffer.first] = (*zeroed.get(buffer.first, ()), span)
    calls = tuple(
        prepare_call(launch, layout, memory, kernels, at=f"launches[{index}]")
        for index, launch in enumerate(plan.launches)
    )
    return Calls(layout, memory, calls, zeroed)


def prepare_call(
    launch: Launch,
    layout: Layout,
    memory: Memory,
    kernels: Kernels,
    *,
    at: str,
    config: int | None = None,
) -> Call:
    """One launch, in the configuration number `config` or the one that is chosen for its rows."""
    parameters = kernels.parameters(launch.kernel)
    numbers = [_number(argument, layout, memory, at) for argument in launch.arguments]
    for parameter, number in zip(parameters, numbers, strict=True):
        _require_promised(parameter, number, at)
    if config is None:
        function = kernels.choose(launch.kernel, launch_rows(launch, parameters, layout))
    else:
        function = kernels.function(launch.kernel, config)
    grid = _grid(launch, function, layout, at)
    values = [_bits(p, number) for p, number in zip(parameters, numbers, strict=True)]
    return Call(function, grid, [*values, *_TRAILING])


def launch_rows(launch: Launch, parameters: tuple[Parameter, ...], layout: Layout) -> int:
    """The rows that a choice of configurations goes by: the parameter `rows`, or else all rows."""
    for parameter, argument in zip(parameters, launch.arguments, strict=True):
        if parameter.name == "rows" and isinstance(argument, SizeOf):
            return layout.sizes(argument.size, at=launch.kernel)
    return layout.sizes.rows


def _number(argument: Argument, layout: Layout, memory: Memory, at: str) -> int:
    match argument:
        case BufferRef(name=name, offset=offset):
            span, inside = layout.buffers[name], layout.sizes(offset, at=at)
            if inside > span.size:
                raise bad_plan("an argument lies beyond its buffer", span.size, argument, at)
            return memory.arena + span.start + inside
        case WeightRef(name=name, offset=skipped):
            return memory.weights[name] + skipped
        case StateRef(name=name):
            return memory.states + layout.states[name].start
        case InputRef(name=name):
            return memory.inputs + layout.inputs[name].start
        case SizeOf(size=size):
            return layout.sizes(size, at=at)


def _require_promised(parameter: Parameter, number: int, at: str) -> None:
    largest = _LARGEST.get(parameter.type)
    if number % parameter.divisible or (largest is not None and number > largest):
        raise RuntimeFault(
            "HETC-R058",
            "a launch breaks what its kernel was promised",
            at=f"{at}: {parameter.name}: {parameter.type}",
            expected=f"a multiple of {parameter.divisible}"
            + (f", at most {largest}" if largest is not None else ""),
            found=number,
            do="report this with the output of hetc doctor",
        )


def _bits(parameter: Parameter, number: int) -> int:
    if parameter.type == "fp32":
        return int.from_bytes(struct.pack("<f", float(number)), "little")
    return number


def _grid(launch: Launch, function: Function, layout: Layout, at: str) -> tuple[int, int, int]:
    def axis(extents: tuple[Extent, ...]) -> int:
        return math.prod(blocks(extent) for extent in extents)

    def blocks(extent: Extent) -> int:
        by = extent.by
        step = function.config.constants[by] if isinstance(by, str) else by
        return -(-layout.sizes(extent.size, at=at) // step)

    x, y, z = (axis(extents) for extents in launch.grid)
    for found, most in zip((x, y, z), _MOST_BLOCKS, strict=True):
        if not 1 <= found <= most:
            raise bad_plan("a grid is of no possible size", f"1 to {most}", [x, y, z], at)
    return x, y, z
