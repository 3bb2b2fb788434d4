"""The launch plan of a prefill half on a GPU (`prefill/launches.json`), schema `hetc.launches/3`.

A prefill is a list of kernel launches. The prompts of a call lie behind each other, without
padding: *rows* are their tokens, M in all, of B sequences, the longest of S tokens. Sizes are
polynomials of M, B and S, written as the contract writes its sizes (`size_of` in
`hetc/runtime/handoff.py`).

Memory: `buffers` share one arena, whose offsets are polynomials too; weights lie where `weights`
says in one allocation, states where `states` says in another. A state is one sequence behind the
other, each in the contract's layout: for sequences of equal length this is the contract's tensor
itself. Of sequences of other lengths, sequence b of a state [B, G, P, D] begins at element G * D *
starts[b]; of a state that keeps the last n rows, at b * G * D * min(S, n).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

SCHEMA = "hetc.launches/3"
LAUNCHES_FILE = "prefill/launches.json"
# Triton's names of numbers that a launch passes; all else is an address.
SCALAR_BYTES = {"i32": 4, "i64": 8, "fp32": 4}
_ADDRESS_BYTES = 8
# A tensor map, then as the kernel sees them rows and columns (i32), and the strides of both (i64).
_MATRIX_BYTES = (128, 4, 4, 8, 8)
# What a row of a matrix that is read through a tensor map must be a multiple of, in bytes, and the
# address of its first one.
MATRIX_ALIGNMENT = 16
# CUDA C++ programming guide, "Technical Specifications per Compute Capability": blocks of a grid
# along its axes, and threads of a block.
MAX_BLOCKS = (2**31 - 1, 65535, 65535)
MAX_THREADS = 1024
# Sequences are the last axis of some grid.
MAX_SEQUENCES = MAX_BLOCKS[2]
Size = str


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of part of a launch plan."""


class Matrix(Part, frozen=True, kw_only=True):
    """A matrix [rows, columns] in memory, row-major without gaps, that a kernel reads in tiles.

    `rows` is a size, or the name of the parameter that says how many there are; `tile` are rows and
    columns of one tile: numbers, or names of constants of the configuration.
    """

    rows: Size
    columns: int
    tile: tuple[int | str, int | str]


class Parameter(Part, frozen=True, kw_only=True):
    """A parameter that a kernel takes, in order: Triton's type (`*bf16`, `i32`, `fp32`).

    What is passed must be a multiple of `divisible`: bytes of an address, or the number itself.
    With a `matrix` the compiled kernel takes no address but a tensor map of what lies there, and
    the tensor memory accelerator (TMA) of sm_90 and later copies the tiles (CUDA C++ programming
    guide, "Asynchronous Data Copies").
    """

    name: str
    type: str
    divisible: int = 1
    matrix: Matrix | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of each parameter of the compiled kernel that it stands for."""
        if self.matrix is not None:
            return _MATRIX_BYTES
        return (_ADDRESS_BYTES if self.type.startswith("*") else SCALAR_BYTES[self.type],)


class Config(Part, frozen=True, kw_only=True):
    """One way to compile a kernel: the constants of its tile, warps of a block, pipeline stages."""

    constants: dict[str, int]
    warps: int
    stages: int


class Box(Part, frozen=True, kw_only=True):
    """What one copy of a tensor map brings to shared memory: `rows` and `columns` of a matrix,
    with 16-byte pieces exchanged within `swizzle` bytes (0, 32, 64 or 128)."""

    rows: int
    columns: int
    swizzle: int


class Build(Part, frozen=True, kw_only=True):
    """A cubin of a kernel: for `arch` (`sm_90`), of the configuration number `config`.

    `threads` is the size of a block, `shared_bytes` what is asked for at launch; `registers` (of a
    thread) and `spill_bytes` are read from the cubin. `boxes` are those of the parameters with a
    matrix, in order, as the compiler laid them out.
    """

    arch: str
    config: int
    cubin: str
    threads: int
    shared_bytes: int
    registers: int
    spill_bytes: int
    boxes: tuple[Box, ...] = ()


class Choice(Part, frozen=True, kw_only=True):
    """Up to `rows` rows (None: any number) the configuration number `config` is launched."""

    rows: int | None
    config: int
    why: str = ""


class Kernel(Part, frozen=True, kw_only=True):
    """A kernel: the Triton function `symbol` of the file `source`, and what was made of it.

    `configs` is the space that `hetc tune` searches; `choices`, in order, say for each arch which
    of it is launched without tuning.
    """

    symbol: str
    source: str
    parameters: tuple[Parameter, ...]
    configs: tuple[Config, ...]
    builds: tuple[Build, ...]
    choices: dict[str, tuple[Choice, ...]]


class Extent(Part, frozen=True, kw_only=True):
    """A factor of a grid: `size` things, `by` at a time, rounded up; `by` is a number or the
    name of a constant of the configuration."""

    size: Size
    by: int | str = 1


class BufferRef(Part, frozen=True, kw_only=True, tag="buffer", tag_field="kind"):
    """The address of a buffer of the arena, `offset` bytes into it."""

    name: str
    offset: Size = "0"


class WeightRef(Part, frozen=True, kw_only=True, tag="weight", tag_field="kind"):
    """The address of a placed weight, `offset` bytes into it: the matrix of a row on."""

    name: str
    offset: int = 0


class StateRef(Part, frozen=True, kw_only=True, tag="state", tag_field="kind"):
    """The address of a state."""

    name: str


class InputRef(Part, frozen=True, kw_only=True, tag="input", tag_field="kind"):
    """The address of what the caller gives, i32 each: `tokens` [M]; `positions` [M] of every row in
    its sequence; `sequences` [M], to which it belongs; `starts` [B + 1], the first row of each
    sequence, and M."""

    name: Literal["tokens", "positions", "sequences", "starts"]


class SizeOf(Part, frozen=True, kw_only=True, tag="size", tag_field="kind"):
    """A size as a number."""

    size: Size


Argument = BufferRef | WeightRef | StateRef | InputRef | SizeOf


class Launch(Part, frozen=True, kw_only=True):
    """One launch: arguments in the order of the kernel's parameters, and the factors of the three
    axes of the grid. `ops` are the names of what it computes, for `hetc explain`; `reads` and
    `writes` name buffers and states, and `flops` is a size."""

    kernel: str
    arguments: tuple[Argument, ...]
    grid: tuple[tuple[Extent, ...], tuple[Extent, ...], tuple[Extent, ...]]
    ops: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    flops: Size = "0"


class Buffer(Part, frozen=True, kw_only=True):
    """Memory of the arena: `bytes` at `offset`, in use from the launch number `first` to `last`,
    both included. A `zeroed` buffer is filled with zeros before the first launch."""

    name: str
    element: str
    bytes: Size
    offset: Size
    first: int
    last: int
    zeroed: bool = False


class PlacedWeight(Part, frozen=True, kw_only=True):
    """Weights of the bundle, row-major and behind each other, from byte `offset` on: several
    matrices of equal width are so one with all of their rows.

    A constant of the graph has no tensors, but its bytes (little-endian) in base64 as `data`. Of
    `transposed` ones the bundle has [K, N] what lies here as [N, K]. With `turn` not 0, the rows of
    the first and the second half of all matrices take turns, `turn` rows of each.
    """

    name: str
    tensors: tuple[str, ...]
    element: str
    bytes: int
    offset: int
    data: str = ""
    transposed: bool = False
    turn: int = 0


class PlacedState(Part, frozen=True, kw_only=True):
    """A state of the contract at byte `offset` of the state memory."""

    name: str
    element: str
    bytes: Size
    offset: Size


class LaunchPlan(Part, frozen=True, kw_only=True):
    """The whole prefill half. `logits` f32 [B, vocab] are in the buffer of that name at the end.

    `triton` and `ptxas` are the versions that made the cubins; `max_tokens` bounds M and S,
    and both it and `MAX_SEQUENCES` bound B.
    """

    schema: str
    triton: str
    ptxas: str
    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    kernels: dict[str, Kernel]
    buffers: tuple[Buffer, ...]
    arena_bytes: Size
    weights: tuple[PlacedWeight, ...]
    weight_bytes: int
    states: tuple[PlacedState, ...]
    state_bytes: Size
    logits: str
    launches: tuple[Launch, ...]
