"""A lowered half as the launch plan of the bundle."""

from __future__ import annotations

from collections.abc import Mapping

from hetc.backends.triton.arena import place_buffers
from hetc.backends.triton.lower import Lowered
from hetc.bundle import launches
from hetc.bundle.launches import SCHEMA, LaunchPlan


def launch_plan(
    lowered: Lowered,
    kernels: Mapping[str, launches.Kernel],
    *,
    max_tokens: int,
    triton: str,
    ptxas: str,
) -> LaunchPlan:
    """The plan of `lowered`, which must have no reasons, with its compiled `kernels`."""
    memory = lowered.memory
    arena = place_buffers(memory.buffers, lowered.launches, [lowered.logits])
    return LaunchPlan(
        schema=SCHEMA,
        triton=triton,
        ptxas=ptxas,
        max_tokens=max_tokens,
        kernels=dict(kernels),
        buffers=arena.buffers,
        arena_bytes=arena.bytes,
        weights=tuple(memory.weights.values()),
        weight_bytes=memory.weight_bytes,
        states=tuple(lowered.states.placed),
        state_bytes=lowered.states.bytes,
        logits=lowered.logits,
        launches=lowered.launches,
    )
