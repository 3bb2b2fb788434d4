"""Spans of time as bars: where many are narrower than a pixel, as shares of a column.

A lane's bar is cut into columns, and each is filled from below by the share of its time that was
busy, then starved, then stalled; what is left was idle. So a stage that waits between all of its
tiles shows how much of the time it waits, at any scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hetc.backends.dataflow.simulate.timeline import STATES, Lane, Spans
from hetc.report.plots.scene import Area, Point

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


def shares(lane: Lane, axis: Axis) -> list[float]:
    """The share of the axis that each of `STATES` takes."""
    ends = np.array([axis.begin, axis.end])
    return [float(_filled(lane.spans[state], ends)[0]) for state in STATES]


def bars(lane: Lane, axis: Axis, top: float, height: float) -> Iterator[Area]:
    """The bar of a lane: an area for each state that it has."""
    columns = math.ceil((axis.right - axis.left) / _COLUMN)
    edges = np.linspace(axis.begin, axis.end, columns + 1)
    below = np.zeros(columns, dtype=int)
    together = np.zeros(columns)
    for state in STATES:
        part = _filled(lane.spans[state], edges)
        together += part
        # What is there at all is seen.
        least = below + (part > 1e-3)
        level = np.minimum(_STEPS, np.maximum(np.rint(together * _STEPS).astype(int), least))
        polygons = tuple(_polygons(list(below), list(level), axis, top + height, height / _STEPS))
        if polygons:
            yield Area(polygons, state)
        below = level


def _filled(spans: Spans, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Which part of the time between each two edges the spans take."""
    if not len(spans):
        return np.zeros(len(edges) - 1)
    # The time taken up to a moment grows along each span and stands still between two.
    sums = np.concatenate([[0.0], np.cumsum(spans[:, 1] - spans[:, 0])])
    taken = np.stack([sums[:-1], sums[1:]], axis=-1).ravel()
    moments = np.maximum.accumulate(spans.ravel())
    filled: NDArray[np.float64] = np.diff(np.interp(edges, moments, taken)) / np.diff(edges)
    return filled


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
