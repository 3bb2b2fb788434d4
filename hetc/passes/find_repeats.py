"""Find repeats: the stretch of ops whose colours repeat at one distance and which is longest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hetc.ir.graph import Graph
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.linear import Linear, MatMul
from hetc.ir.ops.recurrence import Recurrence
from hetc.ir.ops.reduce import Softmax
from hetc.ir.ops.sequence import Conv1dCausal

Colours = npt.NDArray[np.int64]

# A layer holds one of these. The first kind that the ops have at all counts, so that neither the
# heads of one attention nor the experts of one mixture pass for layers.
_ANCHORS: tuple[tuple[type[Op], ...], ...] = (
    (Attention, Recurrence, Conv1dCausal),
    (Softmax,),
    (Linear, MatMul),
)
# Layers of up to this many kinds may alternate, and this many distances are tried for each number.
_KINDS = 16
_DISTANCES = 3


@dataclass(frozen=True)
class Run:
    """`times` stretches of `period` ops, one after the other from op `start`."""

    start: int
    period: int
    times: int


def colours(ops: Sequence[Op]) -> Colours:
    """A number for each op, equal for ops of one kind with equal attributes and types."""
    numbers: dict[tuple[Any, ...], int] = {}
    return np.array([numbers.setdefault(_key(op), len(numbers)) for op in ops], dtype=np.int64)


def _key(op: Op) -> tuple[Any, ...]:
    parts: list[Any] = [op.kind]
    for spec in op.signature:
        item = getattr(op, spec.name)
        if isinstance(item, Value):
            parts.append(item.type)
        elif spec.role == "variadic":
            parts.append(tuple(value.type for value in item))
        elif isinstance(item, Graph):
            parts.append(id(item))
        else:
            # 1, 1.0 and True are equal in Python and different attributes.
            parts.append((type(item), item))
    return tuple(parts)


def find_run(ops: Sequence[Op], colour: Colours) -> Run | None:
    """The run of at least two repeats that covers most of `ops`; the shortest period of equals.

    Of the places where a period can begin, the one is taken that the fewest values cross, then the
    one with most repeats, then the first.
    """
    anchors = _anchors(ops)
    best: tuple[int, int, int, int] | None = None
    for period in _periods(anchors, colour):
        start, stop = _longest_run(colour, period)
        times = (stop - start) // period
        if times < 2 or not _holds(anchors, start, start + period):
            continue
        found = (times * period, -period, start, stop)
        best = found if best is None else max(best, found)
    if best is None:
        return None
    _, negative_period, start, stop = best
    return _rotate(ops, start, stop, -negative_period)


def _anchors(ops: Sequence[Op]) -> Colours:
    for kinds in _ANCHORS:
        places = [index for index, op in enumerate(ops) if isinstance(op, kinds)]
        if places:
            return np.array(places, dtype=np.int64)
    return np.array([], dtype=np.int64)


def _holds(anchors: Colours, start: int, stop: int) -> bool:
    return bool(np.searchsorted(anchors, stop) > np.searchsorted(anchors, start))


def _periods(anchors: Colours, colour: Colours) -> list[int]:
    """The commonest distances between anchors of one colour, neighbours and those further apart."""
    periods: dict[int, None] = {}
    for step in range(1, min(_KINDS, len(anchors) - 1) + 1):
        first, second = anchors[:-step], anchors[step:]
        alike = colour[first] == colour[second]
        common = Counter((second - first)[alike].tolist()).most_common(_DISTANCES)
        periods.update(dict.fromkeys(distance for distance, _ in common))
    return list(periods)


def _longest_run(colour: Colours, period: int) -> tuple[int, int]:
    """First op and end of the longest stretch in which each op is like the one a period later."""
    alike = np.concatenate(([False], colour[:-period] == colour[period:], [False]))
    edges = np.flatnonzero(alike[1:] != alike[:-1])
    starts, stops = edges[::2], edges[1::2]
    if not len(starts):
        return 0, 0
    longest = int(np.argmax(stops - starts))
    return int(starts[longest]), int(stops[longest]) + period


def _rotate(ops: Sequence[Op], start: int, stop: int, period: int) -> Run:
    crossing = _crossing(ops)
    middle = start + (stop - start) // period // 2 * period
    runs = []
    for shift in range(period):
        times = (stop - start - shift) // period
        if times > 1:
            # The end of the middle repeat, which must be one of those that remain.
            boundary = middle + shift if middle + shift < stop else middle + shift - period
            runs.append((int(crossing[boundary]), -times, shift))
    _, negative_times, shift = min(runs)
    return Run(start + shift, period, -negative_times)


def _crossing(ops: Sequence[Op]) -> Colours:
    """For each place between ops how many values made before it are read after it."""
    last_read = {value: place for place, op in enumerate(ops) for value in op.operands}
    steps = np.zeros(len(ops) + 1, dtype=np.int64)
    for place, op in enumerate(ops):
        for value in op.results:
            if value in last_read:
                steps[place + 1] += 1
                steps[last_read[value] + 1] -= 1
    return np.cumsum(steps)
