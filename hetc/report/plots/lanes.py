"""Spans of time as bars: where many are narrower than a pixel, as shares of a column.

A lane's bar is cut into columns, and each is filled from below by the share of its time that was
busy, then starved, then stalled; what is left was idle. So a stage that waits between all of its
tiles shows how much of the time it waits, at any scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hetc.backends.dataflow.simulate.timeline import Span
from hetc.report.plots.scene import Area, Point

STATES = ("busy", "starved", "stalled")
_COLUMN = 2.0  # pixels
_STEPS = 16  # in which a share is told


@dataclass(frozen=True)
class Axis:
    """Time from `begin` to `end` on pixels from `left` to `right`."""

    begin: float
    end: float
    left: float
    right: float

    def __call__(self, time: float) -> float:
        part = (time - self.begin) / (self.end - self.begin)
        return self.left + min(1.0, max(0.0, part)) * (self.right - self.left)


def shares(spans: Iterable[Span], axis: Axis) -> dict[str, float]:
    """The share of the axis that each state takes."""
    found = dict.fromkeys(STATES, 0.0)
    for span in spans:
        inside = min(span.end, axis.end) - max(span.begin, axis.begin)
        found[span.state] += max(0.0, inside)
    return {state: time / (axis.end - axis.begin) for state, time in found.items()}


def bars(spans: Sequence[Span], axis: Axis, top: float, height: float) -> Iterator[Area]:
    """The bar of a lane: an area for each state that it has."""
    columns = _columns(spans, axis)
    below = [0] * len(columns[STATES[0]])
    for state in STATES:
        level = [low + part for low, part in zip(below, columns[state], strict=True)]
        polygons = tuple(_polygons(below, level, axis, top + height, height / _STEPS))
        if polygons:
            yield Area(polygons, state)
        below = level


def _columns(spans: Iterable[Span], axis: Axis) -> dict[str, list[int]]:
    """Of every column the steps that each state takes, together at most all of them."""
    count = math.ceil((axis.right - axis.left) / _COLUMN)
    taken = {state: [0.0] * count for state in STATES}
    scale = count / (axis.end - axis.begin)
    for span in spans:
        begin = max(0.0, (span.begin - axis.begin) * scale)
        end = min(float(count), (span.end - axis.begin) * scale)
        column = taken[span.state]
        for index in range(int(begin), math.ceil(end)):
            column[index] += max(0.0, min(end, index + 1) - max(begin, index))
    steps: dict[str, list[int]] = {state: [] for state in STATES}
    for parts in zip(*taken.values(), strict=True):
        total = low = 0
        sums = 0.0
        for state, part in zip(STATES, parts, strict=True):
            sums += part
            # What is there at all is seen.
            total = min(_STEPS, max(round(sums * _STEPS), low + (part > 1e-3)))
            steps[state].append(total - low)
            low = total
    return steps


def _polygons(
    below: Sequence[int], level: Sequence[int], axis: Axis, floor: float, step: float
) -> Iterator[tuple[Point, ...]]:
    """Outlines of the columns between two levels, one for each run of columns that have some."""
    index = 0
    while index < len(level):
        if level[index] == below[index]:
            index += 1
            continue
        first = index
        while index < len(level) and level[index] > below[index]:
            index += 1
        upper = _edge(level, first, index, axis, floor, step)
        lower = _edge(below, first, index, axis, floor, step)
        yield (*upper, *reversed(lower))


def _edge(
    level: Sequence[int], first: int, last: int, axis: Axis, floor: float, step: float
) -> list[Point]:
    """The upper edge of columns, with points only where it changes."""
    points: list[Point] = []
    for index in range(first, last):
        left = axis.left + index * _COLUMN
        right = min(left + _COLUMN, axis.right)
        y = floor - level[index] * step
        if points and points[-1][1] == y:
            points[-1] = (right, y)
        else:
            points += [(left, y), (right, y)]
    return points
