"""Checks a launch plan by itself: memory, order, arguments and grids, for sizes small and large.

It shares no code with what makes plans: sizes are numbers here, tried out for calls of many shapes.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import prod

from hetc.bundle.launches import (
    MAX_BLOCKS,
    MAX_SEQUENCES,
    MAX_THREADS,
    BufferRef,
    Config,
    Extent,
    InputRef,
    Kernel,
    Launch,
    LaunchPlan,
    Parameter,
    SizeOf,
    StateRef,
    WeightRef,
)
from hetc.errors import Reason
from hetc.ir.dims import evaluate, parse_dim
from hetc.ir.types import DTYPES

_TYPES = {"f32": "fp32", "f16": "fp16", "f8e4m3": "fp8e4nv", "f8e5m2": "fp8e5", "bool": "i1"}
# Of what a tensor map is made.
_BITS = {"*bf16": 16, "*fp16": 16, "*fp32": 32}
_KINDS = {BufferRef: "buffer", WeightRef: "weight", StateRef: "state"}
Number = Callable[[str], int]


def check_plan(plan: LaunchPlan, states: Iterable[str]) -> list[Reason]:
    """Everything that is wrong with `plan`, whose contract has `states`; empty where nothing is.

    HETC-E060 names and arguments, E061 memory, E062 order, E063 grids, E064 builds.
    """
    found = [*_names(plan, states), *_builds(plan)]
    if found:
        # What follows looks things up by name.
        return found
    found += [*_order(plan), *_arguments(plan)]
    for sizes in calls(plan.max_tokens):
        number = _numbers(sizes)
        told = ", ".join(f"{name}={size}" for name, size in sizes.items() if name != "P")
        wrong = [
            *_memory(plan, number),
            *_addresses(plan, number),
            *_matrices(plan, number),
            *_grids(plan, number),
        ]
        found += [Reason(each.code, f"{each.text} ({told})", each.at) for each in wrong]
    return list(dict.fromkeys(found))


def calls(max_tokens: int) -> list[dict[str, int]]:
    """Sizes of calls: the least, ragged ones, and those with most tokens and sequences."""
    sequences = min(max_tokens, MAX_SEQUENCES)
    shapes = [
        (1, 1, 1),
        (17, 3, 11),
        (130, 2, 129),
        (4096, 1, 4096),
        (5000, 7, 1000),
        (max_tokens, 1, max_tokens),
        (sequences, sequences, 1),
        (max_tokens, sequences, -(-max_tokens // sequences)),
    ]
    return [
        {"M": rows, "B": sequences, "S": longest, "P": longest}
        for rows, sequences, longest in shapes
        if rows <= max_tokens
    ]


def _numbers(sizes: Mapping[str, int]) -> Number:
    known: dict[str, int] = {}

    def number(size: str) -> int:
        if size not in known:
            known[size] = evaluate(parse_dim(size), sizes)
        return known[size]

    return number


def _names(plan: LaunchPlan, states: Iterable[str]) -> Iterator[Reason]:
    buffers, weights = ([part.name for part in parts] for parts in (plan.buffers, plan.weights))
    placed = [state.name for state in plan.states]
    for kind, names in (("buffer", buffers), ("weight", weights), ("state", placed)):
        for name, count in Counter(names).items():
            if count > 1:
                yield Reason("HETC-E060", f"two of one name, as a {kind}", name)
    if placed != list(states):
        yield Reason("HETC-E060", "the states are not those of the contract, in order", "states")
    known = {"buffer": set(buffers), "weight": set(weights), "state": set(placed)}
    for at, launch in _numbered(plan):
        if launch.kernel not in plan.kernels:
            yield Reason("HETC-E060", f"no kernel {launch.kernel}", at)
        for argument in launch.arguments:
            match argument:
                case BufferRef() | WeightRef() | StateRef():
                    kind = _KINDS[type(argument)]
                    if argument.name not in known[kind]:
                        yield Reason("HETC-E060", f"no {kind} {argument.name}", at)
        for name in (*launch.reads, *launch.writes):
            if name not in known["buffer"] | known["state"]:
                yield Reason("HETC-E060", f"{name} is neither a buffer nor a state", at)
    logits = [buffer for buffer in plan.buffers if buffer.name == plan.logits]
    if not logits or logits[0].element != "f32" or logits[0].last != len(plan.launches) - 1:
        yield Reason("HETC-E060", "logits are no buffer of f32 in use at the end", plan.logits)


def _builds(plan: LaunchPlan) -> Iterator[Reason]:
    for name, kernel in plan.kernels.items():
        built = {(build.arch, build.config) for build in kernel.builds}
        for build in kernel.builds:
            if not 0 <= build.config < len(kernel.configs):
                yield Reason("HETC-E064", f"a build of no configuration {build.config}", name)
            elif len(build.boxes) != sum(p.matrix is not None for p in kernel.parameters):
                yield Reason("HETC-E064", f"a build with {len(build.boxes)} tensor maps", name)
            elif build.threads % 32 or not 0 < build.threads <= MAX_THREADS:
                yield Reason("HETC-E064", f"a block of {build.threads} threads", name)
        if {arch for arch, _ in built} != set(kernel.choices):
            yield Reason("HETC-E064", "choices are not of the architectures that are built", name)
        for arch, choices in kernel.choices.items():
            rows = [choice.rows for choice in choices]
            bounds = [bound for bound in rows[:-1] if bound is not None]
            if (
                not rows
                or rows[-1] is not None
                or bounds != sorted(set(bounds))
                or None in rows[:-1]
            ):
                yield Reason("HETC-E064", f"choices for {arch} are not ascending to any rows", name)
            for choice in choices:
                if (arch, choice.config) not in built:
                    yield Reason("HETC-E064", f"the choice {choice.config} is not built", name)


def _order(plan: LaunchPlan) -> Iterator[Reason]:
    """What is read was written before, inside of its lifetime; all states are written."""
    lives = {buffer.name: buffer for buffer in plan.buffers}
    written = {buffer.name for buffer in plan.buffers if buffer.zeroed}
    for number, (at, launch) in enumerate(_numbered(plan)):
        for name in launch.reads:
            if name not in written:
                yield Reason("HETC-E062", f"{name} is read before it is written", at)
        written.update(launch.writes)
        for name in (*launch.reads, *launch.writes):
            if name in lives and not lives[name].first <= number <= lives[name].last:
                yield Reason("HETC-E062", f"{name} is used outside of its lifetime", at)
        touched = {
            argument.name
            for argument in launch.arguments
            if isinstance(argument, BufferRef | StateRef)
        }
        if touched != {*launch.reads, *launch.writes}:
            yield Reason("HETC-E062", "arguments are not what is read and written", at)
    for name in (*(state.name for state in plan.states), plan.logits):
        if name not in written:
            yield Reason("HETC-E062", f"{name} is never written", name)


def _arguments(plan: LaunchPlan) -> Iterator[Reason]:
    """Every parameter gets what its type says."""
    elements = {
        kind: {part.name: part.element for part in parts}
        for kind, parts in (
            (BufferRef, plan.buffers),
            (WeightRef, plan.weights),
            (StateRef, plan.states),
        )
    }
    for at, launch in _numbered(plan):
        parameters = plan.kernels[launch.kernel].parameters
        if len(parameters) != len(launch.arguments):
            count = f"{len(launch.arguments)} arguments for {len(parameters)} parameters"
            yield Reason("HETC-E060", count, at)
            continue
        for parameter, argument in zip(parameters, launch.arguments, strict=True):
            if isinstance(argument, SizeOf):
                fits = parameter.type in ("i32", "i64")
            else:
                element = (
                    "i32"
                    if isinstance(argument, InputRef)
                    else elements[type(argument)][argument.name]
                )
                fits = parameter.type == f"*{_TYPES.get(element, element)}"
            if not fits:
                yield Reason("HETC-E060", f"{parameter.name}: {parameter.type} gets {argument}", at)


def _memory(plan: LaunchPlan, number: Number) -> Iterator[Reason]:
    """Everything lies inside of its memory, and on nothing that is in use at the same time."""
    buffers = [
        (buffer, number(buffer.offset), number(buffer.offset) + number(buffer.bytes))
        for buffer in plan.buffers
    ]
    for buffer, begin, end in buffers:
        if begin < 0 or end <= begin or end > number(plan.arena_bytes):
            yield Reason("HETC-E061", "a buffer leaves the arena", buffer.name)
    for index, (one, begin, end) in enumerate(buffers):
        for other, start, stop in buffers[index + 1 :]:
            at_once = one.first <= other.last and other.first <= one.last
            if at_once and begin < stop and start < end:
                yield Reason("HETC-E061", f"{one.name} lies on {other.name}", one.name)
    states = [
        (state.name, number(state.offset), number(state.offset) + number(state.bytes))
        for state in plan.states
    ]
    weights = [(part.name, part.offset, part.offset + part.bytes) for part in plan.weights]
    for kind, parts, size in (
        ("state", states, number(plan.state_bytes)),
        ("weight", weights, plan.weight_bytes),
    ):
        last = 0
        for name, begin, end in sorted(parts, key=lambda part: part[1]):
            if begin < last or end < begin or end > size:
                yield Reason("HETC-E061", f"a {kind} lies on another or outside", name)
            last = max(last, end)
    for part in plan.weights:
        whole = part.bytes % (DTYPES[part.element].bits // 8) == 0
        if part.data and len(base64.b64decode(part.data)) != part.bytes:
            yield Reason("HETC-E061", "a constant has other bytes than it says", part.name)
        if not whole or bool(part.data) == bool(part.tensors):
            yield Reason("HETC-E061", "a weight is no whole number of elements", part.name)
        if part.turn and (part.data or part.bytes % (2 * part.turn)):
            yield Reason("HETC-E061", "rows of a weight cannot take turns", part.name)


def _addresses(plan: LaunchPlan, number: Number) -> Iterator[Reason]:
    """What is passed is divisible by what its parameter promises, and points into its memory."""
    buffers = {part.name: (number(part.offset), number(part.bytes)) for part in plan.buffers}
    states = {part.name: (number(part.offset), number(part.bytes)) for part in plan.states}
    weights = {part.name: (part.offset, part.bytes) for part in plan.weights}
    for at, launch in _numbered(plan):
        parameters = plan.kernels[launch.kernel].parameters
        for parameter, argument in zip(parameters, launch.arguments, strict=False):
            match argument:
                case BufferRef(name=name, offset=offset):
                    place, within, size = buffers[name][0], number(offset), buffers[name][1]
                case WeightRef(name=name, offset=within):
                    place, size = weights[name]
                case StateRef(name=name):
                    (place, size), within = states[name], 0
                case SizeOf(size=told):
                    place, within, size = number(told), 0, 1
                case _:
                    continue
            yield from _address(at, parameter, place + within, 0 <= within < size)


def _matrices(plan: LaunchPlan, number: Number) -> Iterator[Reason]:
    """What a tensor map is made of lies in its memory, its rows begin where they may, and the
    configurations know its tiles."""
    room = {buffer.name: number(buffer.bytes) for buffer in plan.buffers}
    room |= {state.name: number(state.bytes) for state in plan.states}
    room |= {weight.name: weight.bytes for weight in plan.weights}
    for at, launch in _numbered(plan):
        kernel = plan.kernels[launch.kernel]
        given = {p.name: a for p, a in zip(kernel.parameters, launch.arguments, strict=False)}
        for parameter, argument in zip(kernel.parameters, launch.arguments, strict=False):
            matrix = parameter.matrix
            if matrix is None:
                continue
            if not isinstance(argument, BufferRef | WeightRef | StateRef):
                yield Reason("HETC-E061", f"{parameter.name} is no matrix in memory", at)
                continue
            width = _BITS[parameter.type] // 8
            skipped = 0 if isinstance(argument, StateRef) else number(str(argument.offset))
            told = given.get(matrix.rows)
            rows = number(told.size if isinstance(told, SizeOf) else matrix.rows)
            needed = skipped + rows * matrix.columns * width
            if needed > room[argument.name]:
                yield Reason("HETC-E061", f"{parameter.name} is larger than its memory", at)
            if matrix.columns * width % 16 or parameter.divisible % 16:
                yield Reason("HETC-E061", f"{parameter.name} has rows that no map takes", at)
            for size in matrix.tile:
                if isinstance(size, str) and any(size not in c.constants for c in kernel.configs):
                    yield Reason("HETC-E064", f"no configuration constant {size}", at)


def _address(at: str, parameter: Parameter, place: int, is_inside: bool) -> Iterator[Reason]:
    if not is_inside:
        yield Reason("HETC-E061", f"{parameter.name} points beside its memory", at)
    if place % parameter.divisible:
        text = f"{parameter.name} is {place}, no multiple of {parameter.divisible}"
        yield Reason("HETC-E061", text, at)


def _grids(plan: LaunchPlan, number: Number) -> Iterator[Reason]:
    for at, launch in _numbered(plan):
        kernel = plan.kernels[launch.kernel]
        for config in _launched(kernel):
            try:
                grid = [
                    prod(_extent(part, config, number) for part in axis) for axis in launch.grid
                ]
            except KeyError as missing:
                yield Reason("HETC-E063", f"no configuration constant {missing}", at)
                break
            if any(not 0 < n <= most for n, most in zip(grid, MAX_BLOCKS, strict=True)):
                yield Reason("HETC-E063", f"a grid of {grid}", at)
                break


def _launched(kernel: Kernel) -> list[Config]:
    """The configurations that may be launched: those that are built, or all before that."""
    built = {build.config for build in kernel.builds}
    return [config for n, config in enumerate(kernel.configs) if not built or n in built]


def _extent(part: Extent, config: Config, number: Number) -> int:
    by = part.by if isinstance(part.by, int) else config.constants[part.by]
    return -(-number(part.size) // by)


def _numbered(plan: LaunchPlan) -> Iterator[tuple[str, Launch]]:
    for index, launch in enumerate(plan.launches):
        yield f"launches[{index}]", launch
