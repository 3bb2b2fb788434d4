"""The launches of a plan as they are made for given sizes: addresses, numbers, grids.

A prompt of a new length waits for this, so what is equal in many launches is computed once: every
distinct argument, every distinct grid.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from hetc.bundle.launches import (
    MAX_BLOCKS,
    Argument,
    BufferRef,
    Extent,
    InputRef,
    LaunchPlan,
    Matrix,
    Parameter,
    SizeOf,
    StateRef,
    WeightRef,
)
from hetc.errors import RuntimeFault
from hetc.runtime.cuda.driver import MAPPED_ELEMENTS, Driver
from hetc.runtime.cuda.kernels import Function, Kernels
from hetc.runtime.cuda.layout import Layout, Span
from hetc.runtime.cuda.plan_file import bad_plan
from hetc.runtime.cuda.tensor_maps import Mapped, TensorMaps

Grid = tuple[int, int, int]
Axes = tuple[tuple[Extent, ...], tuple[Extent, ...], tuple[Extent, ...]]
T = TypeVar("T", bound=Hashable)
_LARGEST = {"i32": 2**31 - 1, "fp32": 2**24}
_WORD_BYTES = 8
# Triton's kernels take two addresses of scratch memory after their own parameters. No kernel of a
# plan uses any.
_TRAILING: tuple[Argument, ...] = (SizeOf(size="0"), SizeOf(size="0"))


@dataclass(frozen=True)
class Memory:
    """Where on the GPU things begin: arena, states and inputs, and every weight by name."""

    arena: int
    states: int
    inputs: int
    weights: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Call:
    """One launch with all that it needs; `parameters` is the address of an array of pointers, and
    `held` what they point at where the `Calls` do not hold it."""

    function: Function
    grid: Grid
    parameters: int
    held: tuple[NDArray[Any], ...] = ()

    def launch(self, driver: Driver, stream: int) -> None:
        """Launch it, in the order of `stream`; any number of times."""
        build, function = self.function.build, self.function.handle
        driver.launch(
            function, self.grid, build.threads, build.shared_bytes, stream, self.parameters
        )


@dataclass(frozen=True)
class Calls:
    """All launches of a plan for one layout, in order.

    `rows` are what configurations were chosen for; `zeroed` are spans of the GPU that are filled
    with zeros before the launch of that number. `values` are what is passed, 8 bytes each, and
    `pointers` what points at them or at tensor maps, which are `held`.
    """

    layout: Layout
    memory: Memory
    calls: tuple[Call, ...]
    rows: tuple[int, ...]
    zeroed: Mapping[int, tuple[Span, ...]]
    values: NDArray[np.int64]
    pointers: NDArray[np.uint64]
    held: NDArray[np.uint8]

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


class _Distinct(Generic[T]):
    """Things by number, equal ones once."""

    def __init__(self) -> None:
        self.numbers: dict[T, int] = {}

    def number(self, thing: T) -> int:
        """Its number, a new one for a new thing."""
        return self.numbers.setdefault(thing, len(self.numbers))


class Caller:
    """Prepares the launches of `plan`; made once, when the bundle is loaded."""

    def __init__(self, plan: LaunchPlan, kernels: Kernels, driver: Driver) -> None:
        self._plan = plan
        self._kernels = kernels
        self._maps = TensorMaps(driver)
        self._weight_bytes = {placed.name: placed.bytes for placed in plan.weights}
        arguments, grids = _Distinct[Argument](), _Distinct[Axes]()
        numbers: list[int] = []
        promises: list[tuple[int, int, bool]] = []
        # Of each launch, where its tensor maps are passed, and of what.
        self._mapped: list[list[tuple[int, Parameter, Argument]]] = []
        self._first: list[int] = []
        self._passed: list[str] = []
        self._grid: list[int] = []
        # The argument that says how many rows there are: the parameter `rows`, or else all rows.
        self._rows: list[int] = []
        for launch in plan.launches:
            self._first.append(len(numbers))
            self._grid.append(grids.number(launch.grid))
            rows: Argument = SizeOf(size="M")
            mapped: list[tuple[int, Parameter, Argument]] = []
            parameters = plan.kernels[launch.kernel].parameters
            given = dict(zip((each.name for each in parameters), launch.arguments, strict=True))
            for parameter, argument in zip(parameters, launch.arguments, strict=True):
                if parameter.matrix is not None:
                    mapped.append((len(numbers), parameter, argument))
                numbers.append(arguments.number(argument))
                largest = _LARGEST.get(parameter.type, 2**63 - 1)
                promises.append((parameter.divisible, largest, parameter.type == "fp32"))
                sizes = _sizes_of(parameter.matrix, given)
                numbers += map(arguments.number, sizes)
                promises += [(1, _LARGEST["i32"], False)] * len(sizes)
                self._passed += [f"{parameter.name}: {parameter.type}"] * (1 + len(sizes))
                if parameter.name == "rows" and isinstance(argument, SizeOf):
                    rows = argument
            self._mapped.append(mapped)
            self._rows.append(arguments.number(rows))
            numbers += (arguments.number(argument) for argument in _TRAILING)
            promises += [(1, 2**63 - 1, False)] * len(_TRAILING)
            self._passed += ["scratch memory"] * len(_TRAILING)
        self._first.append(len(numbers))
        self._arguments = tuple(arguments.numbers)
        self._grids = tuple(grids.numbers)
        self._numbers = np.asarray(numbers)
        self._divisible = np.asarray([divisible for divisible, _, _ in promises])
        self._largest = np.asarray([largest for _, largest, _ in promises])
        self._floats = np.flatnonzero([is_float for _, _, is_float in promises])

    def prepare(self, layout: Layout, memory: Memory) -> Calls:
        """Everything that the launches need for one layout in one place.

        Raises RuntimeFault HETC-R054 for a grid that no GPU has or a reference beyond its buffer,
        and R058 where a launch breaks what its kernel was promised.
        """
        distinct = [_number(argument, layout, memory) for argument in self._arguments]
        if max(distinct, default=0) >= 2**63:
            raise bad_plan("a number is too large", "below 2**63", max(distinct), str(layout.sizes))
        values = np.asarray(distinct, np.int64)[self._numbers]
        self._require_promised(values)
        values[self._floats] = values[self._floats].astype(np.float32).view(np.uint32)
        # Every value has eight bytes, of which the driver reads as many as its parameter has: they
        # come first, since CUDA's hosts are little-endian.
        pointers = values.ctypes.data + _WORD_BYTES * np.arange(values.size, dtype=np.uint64)
        first_pointer = pointers.ctypes.data
        maps: list[tuple[int, Mapped]] = []
        rows = tuple(distinct[number] for number in self._rows)
        functions: dict[tuple[str, int], Function] = {}
        grids: dict[tuple[int, str, int], Grid] = {}
        calls = []
        for index, launch in enumerate(self._plan.launches):
            case = launch.kernel, rows[index]
            if case not in functions:
                functions[case] = self._kernels.choose(*case)
            function = functions[case]
            shape = self._grid[index], launch.kernel, function.build.config
            if shape not in grids:
                grids[shape] = self._blocks(index, function, layout)
            place = first_pointer + _WORD_BYTES * self._first[index]
            calls.append(Call(function, grids[shape], place))
            maps += self._matrices(index, function, layout, values)
        held, addresses = self._maps.lay_out(matrix for _, matrix in maps)
        for place, matrix in maps:
            pointers[place] = addresses[matrix]
        zeroed = self._zeroed(layout, memory)
        return Calls(layout, memory, tuple(calls), rows, zeroed, values, pointers, held)

    def in_config(self, calls: Calls, index: int, config: int) -> Call:
        """The call number `index` in another configuration of its kernel."""
        function = self._kernels.function(self._plan.launches[index].kernel, config)
        grid = self._blocks(index, function, calls.layout)
        maps = self._matrices(index, function, calls.layout, calls.values)
        if not maps:
            return Call(function, grid, calls.calls[index].parameters)
        # Tiles of another size need other maps.
        held, addresses = self._maps.lay_out(matrix for _, matrix in maps)
        first = self._first[index]
        pointers = calls.pointers[first : self._first[index + 1]].copy()
        for place, matrix in maps:
            pointers[place - first] = addresses[matrix]
        return Call(function, grid, pointers.ctypes.data, (pointers, held))

    def _matrices(
        self, index: int, function: Function, layout: Layout, values: NDArray[np.int64]
    ) -> list[tuple[int, Mapped]]:
        """Of a launch, where the tensor maps of a configuration go, and of what they are."""
        found = []
        for (place, parameter, argument), box in zip(
            self._mapped[index], function.build.boxes, strict=True
        ):
            address, rows, columns = map(int, values[place : place + 3])
            element = parameter.type.removeprefix("*")
            room = _room(argument, layout, self._weight_bytes)
            size = rows * columns * MAPPED_ELEMENTS[element][1]
            if size > room:
                raise bad_plan(
                    "a matrix lies beyond its memory", f"{room} bytes", size, str(argument)
                )
            found.append((place, Mapped(address, element, rows, columns, box)))
        return found

    def _blocks(self, index: int, function: Function, layout: Layout) -> Grid:
        at = f"launches[{index}]"

        def axis(extents: tuple[Extent, ...]) -> int:
            return math.prod(blocks(extent) for extent in extents)

        def blocks(extent: Extent) -> int:
            by = extent.by
            step = function.config.constants[by] if isinstance(by, str) else by
            return -(-layout.sizes(extent.size, at=at) // step)

        x, y, z = (axis(extents) for extents in self._grids[self._grid[index]])
        for found, most in zip((x, y, z), MAX_BLOCKS, strict=True):
            if not 1 <= found <= most:
                raise bad_plan("a grid is of no possible size", f"1 to {most}", [x, y, z], at)
        return x, y, z

    def _require_promised(self, values: NDArray[np.int64]) -> None:
        broken = np.flatnonzero((values % self._divisible != 0) | (values > self._largest))
        if not broken.size:
            return
        place = int(broken[0])
        index = int(np.searchsorted(self._first, place, side="right")) - 1
        divisible, largest = self._divisible[place], self._largest[place]
        raise RuntimeFault(
            "HETC-R058",
            "a launch breaks what its kernel was promised",
            at=f"launches[{index}]: {self._passed[place]}",
            expected=f"a multiple of {divisible}, at most {largest}",
            found=int(values[place]),
            do="report this with the output of hetc doctor",
        )

    def _zeroed(self, layout: Layout, memory: Memory) -> dict[int, tuple[Span, ...]]:
        found: dict[int, tuple[Span, ...]] = {}
        for buffer in self._plan.buffers:
            own = layout.buffers[buffer.name]
            if buffer.zeroed and own.size:
                # Not earlier: until its first launch the memory may be another buffer's.
                span = Span(memory.arena + own.start, own.size)
                found[buffer.first] = (*found.get(buffer.first, ()), span)
        return found


def _sizes_of(matrix: Matrix | None, given: Mapping[str, Argument]) -> tuple[Argument, ...]:
    """What a compiled kernel is passed behind a tensor map: rows, columns, and strides of both."""
    if matrix is None:
        return ()
    columns = SizeOf(size=str(matrix.columns))
    return given.get(matrix.rows, SizeOf(size=matrix.rows)), columns, columns, SizeOf(size="1")


def _room(argument: Argument, layout: Layout, weights: Mapping[str, int]) -> int:
    """Bytes from where an argument points to on."""
    match argument:
        case BufferRef(name=name, offset=offset):
            return layout.buffers[name].size - layout.sizes(offset, at=name)
        case WeightRef(name=name, offset=skipped):
            return weights[name] - skipped
        case StateRef(name=name):
            return layout.states[name].size
        case InputRef(name=name):
            return layout.inputs[name].size
        case SizeOf():
            return 0


def _number(argument: Argument, layout: Layout, memory: Memory) -> int:
    match argument:
        case BufferRef(name=name, offset=offset):
            span, inside = layout.buffers[name], layout.sizes(offset, at=name)
            if inside > span.size:
                raise bad_plan("an argument lies beyond its buffer", span.size, argument)
            return memory.arena + span.start + inside
        case WeightRef(name=name, offset=skipped):
            return memory.weights[name] + skipped
        case StateRef(name=name):
            return memory.states + layout.states[name].start
        case InputRef(name=name):
            return memory.inputs + layout.inputs[name].start
        case SizeOf(size=size):
            return layout.sizes(size, at="arguments")
