"""Reading the launch plan of a bundle: what must hold whatever the prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from hetc.bundle import OpenBundle
from hetc.bundle.dtypes import BY_NAME
from hetc.bundle.launches import (
    LAUNCHES_FILE,
    MATRIX_ALIGNMENT,
    MAX_THREADS,
    SCALAR_BYTES,
    Argument,
    Buffer,
    BufferRef,
    InputRef,
    Kernel,
    Launch,
    LaunchPlan,
    Matrix,
    Parameter,
    PlacedState,
    PlacedWeight,
    SizeOf,
    StateRef,
    WeightRef,
)
from hetc.bundle.launches_file import read_launches
from hetc.errors import RuntimeFault
from hetc.runtime.cuda.driver import MAPPED_ELEMENTS, SWIZZLES

# Rows, and columns, that a tensor map copies at a time at most (cuTensorMapEncodeTiled).
_MOST_BOX = 256


def read_plan(bundle: OpenBundle) -> LaunchPlan:
    """The launch plan of the prefill half, checked in itself and against the bundle's files.

    Raises RuntimeFault HETC-R055 for a bundle without one, R054 for one that contradicts itself,
    BundleError for one that cannot be read.
    """
    if LAUNCHES_FILE not in bundle.manifest.files:
        raise RuntimeFault(
            "HETC-R055",
            "this bundle has no kernels for a GPU",
            at=LAUNCHES_FILE,
            found="no launch plan",
            do="compile with --prefill for a GPU, such as h200",
        )
    plan = read_launches(bundle.read_bytes(LAUNCHES_FILE))
    _unique("buffer", (buffer.name for buffer in plan.buffers))
    _unique("weight", (weight.name for weight in plan.weights))
    _unique("state", (state.name for state in plan.states))
    for name, kernel in plan.kernels.items():
        _check_kernel(name, kernel, bundle)
    names = Names.of(plan)
    for index, launch in enumerate(plan.launches):
        _check_launch(f"launches[{index}]", launch, plan, names)
    _check_memory(plan)
    return plan


def bad_plan(what: str, expected: object, found: object, at: str = "") -> RuntimeFault:
    """The error for a plan that contradicts itself; `at` is a place in it."""
    return RuntimeFault(
        "HETC-R054",
        f"the launch plan cannot be used: {what}",
        at=f"{LAUNCHES_FILE}: {at}" if at else LAUNCHES_FILE,
        expected=expected,
        found=found,
        do="compile the model again, with the version of hetc that runs it",
    )


@dataclass(frozen=True)
class Names:
    """What arguments may name; of weights with their bytes."""

    buffers: frozenset[str]
    weights: Mapping[str, int]
    states: frozenset[str]

    @staticmethod
    def of(plan: LaunchPlan) -> Names:
        """Those of a plan."""
        return Names(
            frozenset(buffer.name for buffer in plan.buffers),
            {weight.name: weight.bytes for weight in plan.weights},
            frozenset(state.name for state in plan.states),
        )

    def know(self, argument: Argument) -> bool:
        """Whether what an argument names is there."""
        match argument:
            case BufferRef(name=name):
                return name in self.buffers
            case WeightRef(name=name):
                return name in self.weights
            case StateRef(name=name):
                return name in self.states
            case InputRef() | SizeOf():
                return True


def _unique(kind: str, names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise bad_plan(f"two have one name, as a {kind}", "every name once", name)


def _check_kernel(name: str, kernel: Kernel, bundle: OpenBundle) -> None:
    at = f"kernels.{name}"
    for parameter in kernel.parameters:
        if not parameter.type.startswith("*") and parameter.type not in SCALAR_BYTES:
            expected = f"a pointer, or one of {', '.join(SCALAR_BYTES)}"
            raise bad_plan("a parameter has an unknown type", expected, parameter.type, at)
        if parameter.divisible < 1:
            raise bad_plan("a parameter is divisible by nothing", "at least 1", 0, at)
        if parameter.matrix is not None:
            _check_matrix(parameter, parameter.matrix, at)
    matrices = sum(parameter.matrix is not None for parameter in kernel.parameters)
    built: dict[str, set[int]] = {}
    for build in kernel.builds:
        if not 0 <= build.config < len(kernel.configs):
            raise bad_plan("a build has no configuration", len(kernel.configs), build.config, at)
        if build.cubin not in bundle.manifest.files:
            raise bad_plan("a build has no file", "a file of the bundle", build.cubin, at)
        if not 1 <= build.threads <= MAX_THREADS or build.shared_bytes < 0:
            found = f"{build.threads} threads, {build.shared_bytes} bytes shared"
            raise bad_plan("a build cannot be launched", f"1 to {MAX_THREADS} threads", found, at)
        if len(build.boxes) != matrices:
            raise bad_plan("a build has other tensor maps", matrices, len(build.boxes), at)
        for box in build.boxes:
            if not (1 <= box.rows <= _MOST_BOX and 1 <= box.columns <= _MOST_BOX):
                raise bad_plan("a tensor map copies too much", f"up to {_MOST_BOX} each", box, at)
            if box.swizzle not in SWIZZLES:
                raise bad_plan("a tensor map is of no known form", SWIZZLES, box.swizzle, at)
        built.setdefault(build.arch, set()).add(build.config)
    for arch, choices in kernel.choices.items():
        bounds = [choice.rows for choice in choices]
        if not bounds or bounds[-1] is not None or None in bounds[:-1]:
            raise bad_plan("choices do not end", "the last one for any rows", bounds, at)
        for choice in choices:
            if choice.config not in built.get(arch, set()):
                found = f"configuration {choice.config} for {arch}"
                raise bad_plan("a choice was not built", "a build of it", found, at)


def _check_matrix(parameter: Parameter, matrix: Matrix, at: str) -> None:
    element = parameter.type.removeprefix("*")
    if not parameter.type.startswith("*") or element not in MAPPED_ELEMENTS:
        expected = ", ".join(f"*{each}" for each in MAPPED_ELEMENTS)
        raise bad_plan("a matrix has an element without a tensor map", expected, parameter.type, at)
    row = matrix.columns * MAPPED_ELEMENTS[element][1]
    if row < 1 or row % MATRIX_ALIGNMENT:
        expected = f"a multiple of {MATRIX_ALIGNMENT} bytes"
        raise bad_plan("a row of a matrix cannot be mapped", expected, f"{row} bytes", at)


def _check_launch(at: str, launch: Launch, plan: LaunchPlan, names: Names) -> None:
    kernel = plan.kernels.get(launch.kernel)
    if kernel is None:
        raise bad_plan("a launch has no kernel", "a kernel of the plan", launch.kernel, at)
    if len(launch.arguments) != len(kernel.parameters):
        found = f"{len(launch.arguments)} for {len(kernel.parameters)} parameters"
        raise bad_plan("a launch has other arguments than its kernel", "one each", found, at)
    for argument, parameter in zip(launch.arguments, kernel.parameters, strict=True):
        if isinstance(argument, SizeOf) == parameter.type.startswith("*"):
            what, expected = (
                "another kind than its parameter",
                f"{parameter.name}: {parameter.type}",
            )
            raise bad_plan(f"an argument is of {what}", expected, argument, at)
        if isinstance(argument, WeightRef) and not 0 <= argument.offset < names.weights.get(
            argument.name, 1
        ):
            raise bad_plan("an argument lies beyond its weight", "an offset in it", argument, at)
        if not names.know(argument):
            raise bad_plan("an argument names no memory", "a name of the plan", argument, at)
    for constant in _constants(launch):
        if any(constant not in config.constants for config in kernel.configs):
            raise bad_plan("a grid names no constant of its kernel", "a constant", constant, at)
    for name in (*launch.reads, *launch.writes):
        if name not in names.buffers and name not in names.states:
            raise bad_plan("a launch names no memory", "a buffer or a state", name, at)


def _constants(launch: Launch) -> Iterator[str]:
    for axis in launch.grid:
        for extent in axis:
            if isinstance(extent.by, str):
                yield extent.by
            elif extent.by < 1:
                raise bad_plan("a grid is divided by nothing", "at least 1", extent.by)


def _check_memory(plan: LaunchPlan) -> None:
    for weight in plan.weights:
        if weight.offset < 0 or weight.bytes < 1:
            raise bad_plan("a weight lies nowhere", "an offset and bytes", weight.name, "weights")
        if weight.offset + weight.bytes > plan.weight_bytes:
            raise bad_plan("a weight leaves its memory", plan.weight_bytes, weight.name, "weights")
        if weight.turn < 0 or (weight.turn and weight.data):
            raise bad_plan(
                "what takes turns is no matrix", "rows of tensors", weight.name, "weights"
            )
    memories: tuple[PlacedWeight | Buffer | PlacedState, ...]
    memories = (*plan.weights, *plan.buffers, *plan.states)
    for held in memories:
        if held.element not in BY_NAME:
            raise bad_plan("an element type is unknown", ", ".join(BY_NAME), held.element)
    logits = [buffer for buffer in plan.buffers if buffer.name == plan.logits]
    if not logits or logits[0].element != "f32":
        raise bad_plan("there are no logits", "a buffer of f32", plan.logits, "logits")
    written = {name for launch in plan.launches for name in launch.writes}
    for name in (*(state.name for state in plan.states), plan.logits):
        if name not in written:
            raise bad_plan("a result is never written", "a launch that writes it", name)
    last = len(plan.launches) - 1
    for buffer in plan.buffers:
        if not 0 <= buffer.first <= buffer.last <= last:
            found = f"{buffer.name}: {buffer.first} to {buffer.last}"
            raise bad_plan("a buffer is in use at no launch", f"0 to {last}", found, "buffers")
