"""Marks: what limits an op on a device, by how much, and at which size that changes.

Every time here is estimated; `op_times.py` says how.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from hetc.passes.cost import Work
from hetc.passes.op_times import Times, op_times
from hetc.passes.workload import Phase
from hetc.targets import Target

MarkKind = Literal["compute", "memory", "link", "latency", "free"]

# Symbols whose size a user can change, and the word for each.
SIZES: Mapping[Phase, Mapping[str, str]] = {
    "prefill": {"S": "tokens", "B": "batch"},
    "decode": {"T": "tokens", "B": "batch", "P": "context"},
}
# Beyond these no flip is looked for.
LIMITS: Mapping[str, int] = {"tokens": 1 << 20, "batch": 1 << 16, "context": 1 << 20}
_OTHER_LIMIT = 1 << 16


def mark_of(times: Times) -> MarkKind:
    """The largest of compute, memory and link; latency where the fixed cost exceeds them all."""
    largest = max(times.compute_s, times.memory_s, times.link_s)
    if times.latency_s > largest:
        return "latency"
    if largest == 0.0:
        return "free"
    if largest == times.link_s:
        return "link"
    return "memory" if largest == times.memory_s else "compute"


@dataclass(frozen=True)
class Crossover:
    """Where a mark flips when one size changes and all others stay.

    `mark` holds from `at` on away from the present size, `until` is the last size of the present
    mark: 143 and 142, say.
    """

    size: str
    until: int
    at: int
    mark: MarkKind


@dataclass(frozen=True)
class Mark:
    """What limits an op on a device: the mark and the estimated numbers that decided it.

    `intensity` and `ridge` are in FLOP/B; `crossovers` holds the nearest flip in each direction.
    """

    kind: MarkKind
    times: Times
    intensity: float
    ridge: float
    crossovers: tuple[Crossover, ...] = ()


def mark_op(
    work: Work,
    target: Target,
    phase: Phase,
    bindings: Mapping[str, int],
    limits: Mapping[str, int] = LIMITS,
) -> Mark:
    """The mark of `work` on `target` at `bindings`, with its crossovers up to `limits`.

    A fused op is marked as if it stood alone.
    """

    def times_at(sizes: Mapping[str, int]) -> Times:
        return op_times(work, work.at(sizes), target, alone=True)

    times = times_at(bindings)
    found: list[Crossover] = []
    if mark_of(times) != "free":
        for symbol, size in _sizes(phase, bindings).items():
            at = _along(times_at, bindings, symbol)
            limit = limits.get(size, _OTHER_LIMIT)
            found += _flips(at, size, bindings[symbol], limit)
    ridge = target.ridge(work.dtype)
    return Mark(mark_of(times), times, work.at(bindings).intensity, ridge, tuple(found))


def _sizes(phase: Phase, bindings: Mapping[str, int]) -> Mapping[str, str]:
    """A model without phases gives its sizes names of its own."""
    return {name: name for name in bindings} if phase == "forward" else SIZES[phase]


def _along(
    times_at: Callable[[Mapping[str, int]], Times], bindings: Mapping[str, int], symbol: str
) -> Callable[[int], MarkKind]:
    return lambda number: mark_of(times_at({**bindings, symbol: number}))


def _flips(mark_at: Callable[[int], MarkKind], size: str, now: int, limit: int) -> list[Crossover]:
    """The nearest flips below and above `now`, by bisection.

    Times grow with every size and the marks follow each other in one order (latency, memory,
    compute), so that a mark holds on one stretch of sizes; both ends are checked by evaluation.
    """
    present = mark_at(now)
    found = []
    for end in (0 if size == "context" else 1, limit):
        inside, outside = now, end
        if inside == outside or mark_at(outside) == present:
            continue
        while abs(outside - inside) > 1:
            middle = (inside + outside) // 2
            if mark_at(middle) == present:
                inside = middle
            else:
                outside = middle
        found.append(Crossover(size, inside, outside, mark_at(outside)))
    return found
