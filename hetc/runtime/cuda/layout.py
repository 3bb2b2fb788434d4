"""Where the memory of one call lies: buffers in the arena, states behind each other, inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hetc.bundle.launches import MAX_SEQUENCES, Buffer, LaunchPlan, PlacedState
from hetc.errors import RuntimeFault
from hetc.runtime.cuda.plan_file import bad_plan
from hetc.runtime.cuda.sizes import Sizes

_ALIGNMENT = 256
_I32_BYTES = 4


@dataclass(frozen=True)
class Span:
    """Bytes from `start` on: of the GPU, or of a piece of memory."""

    start: int
    size: int


@dataclass(frozen=True)
class Layout:
    """Spans within the memories of one call, all of them checked; `inputs` are i32 each."""

    sizes: Sizes
    arena_bytes: int
    state_bytes: int
    input_bytes: int
    buffers: Mapping[str, Span]
    states: Mapping[str, Span]
    inputs: Mapping[str, Span]


def lay_out(plan: LaunchPlan, sizes: Sizes) -> Layout:
    """The layout of a call of `sizes`.

    Raises RuntimeFault: HETC-R057 for more tokens than the plan takes, R054 for what leaves its
    memory.
    """
    if sizes.rows > plan.max_tokens or sizes.sequences > MAX_SEQUENCES:
        raise RuntimeFault(
            "HETC-R057",
            "these prompts are more than the launch plan allows",
            expected=f"at most {plan.max_tokens} tokens of at most {MAX_SEQUENCES} sequences",
            found=f"{sizes.sequences} x {sizes.longest} tokens",
            do="run fewer prompts at once, or compile with a larger --context",
        )
    arena = sizes(plan.arena_bytes, at="arena_bytes")
    states = sizes(plan.state_bytes, at="state_bytes")
    inputs, input_bytes = _inputs(sizes)
    return Layout(
        sizes,
        arena,
        states,
        input_bytes,
        {held.name: _span(held, sizes, arena, "buffers") for held in plan.buffers},
        {held.name: _span(held, sizes, states, "states") for held in plan.states},
        inputs,
    )


def _span(held: Buffer | PlacedState, sizes: Sizes, room: int, kind: str) -> Span:
    at = f"{kind}.{held.name}"
    found = Span(sizes(held.offset, at=at), sizes(held.bytes, at=at))
    if found.start + found.size > room:
        raise bad_plan(f"memory is left, for {sizes}", f"{room} bytes", found, at)
    return found


def _inputs(sizes: Sizes) -> tuple[dict[str, Span], int]:
    counts = {
        "tokens": sizes.rows,
        "positions": sizes.rows,
        "sequences": sizes.rows,
        "starts": sizes.sequences + 1,
    }
    found: dict[str, Span] = {}
    reached = 0
    for name, count in counts.items():
        found[name] = Span(reached, count * _I32_BYTES)
        reached += -(-count * _I32_BYTES // _ALIGNMENT) * _ALIGNMENT
    return found, reached
