"""Runs a whole launch plan on the CPU, in Triton's interpreter: the oracle's path of a GPU."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from hetc.backends.triton.kernel import Kernel
from hetc.bundle import launches as plan_parts
from hetc.bundle.launches import (
    BufferRef,
    Config,
    Extent,
    InputRef,
    Launch,
    LaunchPlan,
    SizeOf,
    StateRef,
    WeightRef,
)
from hetc.ir.types import DTYPES
from hetc.runtime.handoff import size_of
from tests.backends.triton.interpreting import Address, Interpreter, Memory, passed

Array = np.ndarray[Any, np.dtype[Any]]
WeightLookup = Callable[[str], Array]
# Bytes that no launch may leave in what it reads: a NaN in every float.
_POISON = 0xFF


@dataclass(frozen=True)
class Ran:
    """The logits [B, vocab], and the memory of every state as numbers of its element."""

    logits: Array
    states: Mapping[str, Array]

    def state(self, name: str, spec: StateShape, lengths: Sequence[int], sequence: int) -> Array:
        """A state of one of the sequences, as [1, G, P, D] or [1, P, D]."""
        kept = [n if spec.keep is None else min(n, spec.keep) for n in lengths]
        most = max(kept)
        before = sum(lengths[:sequence]) if spec.keep is None else sequence * most
        first = before * spec.heads * spec.width
        count = kept[sequence] * spec.heads * spec.width
        piece = self.states[name][first : first + count]
        return piece.reshape(spec.heads, kept[sequence], spec.width)


@dataclass(frozen=True)
class StateShape:
    """Heads and width of a state's rows, and how many of them are kept."""

    heads: int
    width: int
    keep: int | None


def run_plan(
    interpreter: Interpreter,
    plan: LaunchPlan,
    kernels: Mapping[str, Kernel],
    prompts: Sequence[Sequence[int]],
    weights: WeightLookup,
) -> Ran:
    """`plan` for `prompts`, of any lengths; `kernels` have the sources of its kernels."""
    lengths = [len(prompt) for prompt in prompts]
    rows, longest = sum(lengths), max(lengths)
    sizes = {"M": rows, "B": len(prompts), "S": longest, "P": longest}

    def number(size: str) -> int:
        return size_of(size, sizes, at="launches.json")

    memories = {
        "buffer": interpreter.allocate(number(plan.arena_bytes)),
        "state": interpreter.allocate(number(plan.state_bytes)),
        "weight": interpreter.allocate(plan.weight_bytes),
    }
    for memory in memories.values():
        memory.bytes[:] = _POISON
    for buffer in plan.buffers:
        if buffer.zeroed:
            first = number(buffer.offset)
            memories["buffer"].bytes[first : first + number(buffer.bytes)] = 0
    _load(memories["weight"], plan, weights)
    inputs = _inputs(interpreter, prompts)
    offsets = {
        "buffer": {buffer.name: number(buffer.offset) for buffer in plan.buffers},
        "state": {state.name: number(state.offset) for state in plan.states},
        "weight": {weight.name: weight.offset for weight in plan.weights},
    }

    def argument(told: object, kind: str) -> Any:
        match told:
            case SizeOf(size=size):
                return number(size)
            case InputRef(name=name):
                return Address(inputs[name], 0, kind)
            case BufferRef(name=name, offset=offset):
                return Address(memories["buffer"], offsets["buffer"][name] + number(offset), kind)
            case StateRef(name=name):
                return Address(memories["state"], offsets["state"][name], kind)
            case WeightRef(name=name, offset=offset):
                return Address(memories["weight"], offsets["weight"][name] + offset, kind)
            case _:
                raise AssertionError(told)

    for launch in plan.launches:
        kernel, parameters = kernels[launch.kernel], plan.kernels[launch.kernel].parameters
        config = _config(kernel, launch, number)
        grid = _grid(launch, config, number)
        given = [
            argument(told, parameter.type)
            for told, parameter in zip(launch.arguments, parameters, strict=True)
        ]
        arguments = passed(parameters, given, config.constants, number)
        interpreter.run(kernel.source, kernel.symbol, grid, arguments, config.constants)
    logits = next(buffer for buffer in plan.buffers if buffer.name == plan.logits)
    vocabulary = number(logits.bytes) // (4 * len(prompts))
    found = memories["buffer"].view(number(logits.offset), np.float32, (len(prompts), vocabulary))
    return Ran(
        found.copy(),
        {state.name: _numbers(memories["state"], state, number) for state in plan.states},
    )


def _numbers(memory: Memory, state: plan_parts.PlacedState, number: Callable[[str], int]) -> Array:
    dtype = DTYPES[state.element].numpy
    count = number(state.bytes) // dtype.itemsize
    return memory.view(number(state.offset), dtype, (count,)).copy()


def _load(memory: Memory, plan: LaunchPlan, weights: WeightLookup) -> None:
    for placed in plan.weights:
        raw = base64.b64decode(placed.data) if placed.data else b""
        arrays = [
            weights(name).T if placed.transposed else weights(name) for name in placed.tensors
        ]
        if placed.turn:
            gate, up = np.split(np.concatenate(arrays), 2)
            turns = range(0, len(gate), placed.turn)
            arrays = [half[row : row + placed.turn] for row in turns for half in (gate, up)]
        for array in arrays:
            raw += np.ascontiguousarray(array).tobytes()
        assert len(raw) == placed.bytes, placed.name
        memory.bytes[placed.offset : placed.offset + placed.bytes] = np.frombuffer(raw, np.uint8)


def _inputs(interpreter: Interpreter, prompts: Sequence[Sequence[int]]) -> dict[str, Memory]:
    lengths = [len(prompt) for prompt in prompts]
    told = {
        "tokens": np.concatenate([np.asarray(prompt) for prompt in prompts]),
        "positions": np.concatenate([np.arange(length) for length in lengths]),
        "sequences": np.repeat(np.arange(len(prompts)), lengths),
        "starts": np.concatenate([[0], np.cumsum(lengths)]),
    }
    made = {}
    for name, array in told.items():
        made[name] = interpreter.allocate(4 * array.size)
        made[name].view(0, np.int32, array.shape)[:] = array
    return made


def _grid(launch: Launch, config: Config, number: Callable[[str], int]) -> list[int]:
    def extent(told: Extent) -> int:
        by = told.by if isinstance(told.by, int) else config.constants[told.by]
        return -(-number(told.size) // by)

    return [prod(map(extent, axis)) for axis in launch.grid]


def _config(kernel: Kernel, launch: Launch, number: Callable[[str], int]) -> Config:
    """The configuration with the fewest programs, of those the one with the smallest tiles: the
    interpreter takes a while for each program."""
    return min(
        (
            Config(constants=dict(kernel.constants or {}) | config.constants, warps=0, stages=0)
            for config in kernel.configs
        ),
        key=lambda config: (prod(_grid(launch, config, number)), prod(config.constants.values())),
    )
