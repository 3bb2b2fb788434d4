"""A start for annealing that knows where the memory ports are: quadratic placement, then bisection.

Every thing is drawn to the mean of its nets' centres (the quadratic placement of Tsay, Kuh and Hsu,
DAC 1988, by Jacobi steps), which the fixed terminals keep apart; recursive bisection of the slots
then gives each thing a slot of its own (as in GORDIAN, Kleinhans et al., TCAD 1991). Integers
throughout.
"""

from __future__ import annotations

from collections.abc import Sequence

from hetc.backends.dataflow.anneal import Problem

# Positions are in 1/1024 of a hop.
_FINE = 1024
_STEPS = 60

Point = tuple[int, int]


def spread(problem: Problem, start: Sequence[int], frozen: frozenset[int]) -> list[int]:
    """The slot of every thing, from the nets and what does not move: terminals and `frozen` things.

    `start` is where frozen things are and the others begin.
    """
    points = _attract(problem, start, frozen)
    slots = list(start)
    held = {start[thing] for thing in frozen}
    centres = {
        slot: (problem.columns[0][slot] * _FINE, problem.rows[0][slot] * _FINE)
        for slot, usable in enumerate(problem.usable)
        if usable and slot not in held
    }
    free = [thing for thing in range(len(start)) if thing not in frozen]
    _bisect(points, centres, free, list(centres), slots)
    return slots


def _attract(problem: Problem, start: Sequence[int], frozen: frozenset[int]) -> list[Point]:
    """Positions after the Jacobi steps; a thing that is frozen or has no net stays where it is."""
    points = [(problem.columns[0][slot] * _FINE, problem.rows[0][slot] * _FINE) for slot in start]
    things_of = [sorted({problem.pins[pin][0] for pin in pins}) for pins in problem.nets]
    nets_of: list[list[int]] = [[] for _ in start]
    for number, things in enumerate(things_of):
        for thing in things:
            if thing not in frozen:
                nets_of[thing].append(number)
    for _ in range(_STEPS):
        centres = []
        for things, fixed in zip(things_of, problem.fixed, strict=True):
            members = [points[thing] for thing in things]
            members += [(x * _FINE, y * _FINE) for x, y in fixed]
            centres.append(_mean(members))
        points = [
            _mean([centres[number] for number in nets]) if nets else point
            for nets, point in zip(nets_of, points, strict=True)
        ]
    return points


def _mean(points: Sequence[Point]) -> Point:
    return sum(x for x, _ in points) // len(points), sum(y for _, y in points) // len(points)


def _bisect(
    points: Sequence[Point],
    centres: dict[int, Point],
    things: list[int],
    region: list[int],
    slots: list[int],
) -> None:
    """Give every one of `things` a slot of `region`, which is halved across its longer side."""
    if not things:
        return
    if len(region) == 1:
        slots[things[0]] = region[0]
        return
    axis = _longer_axis([centres[slot] for slot in region])
    region.sort(key=lambda slot: (centres[slot][axis], slot))
    middle = len(region) // 2
    border = (centres[region[middle - 1]][axis] + centres[region[middle]][axis]) // 2
    things.sort(key=lambda thing: (points[thing][axis], thing))
    below = sum(points[thing][axis] <= border for thing in things)
    # What lies below goes below, unless one half would overflow.
    below = min(max(below, len(things) - (len(region) - middle)), middle)
    _bisect(points, centres, things[:below], region[:middle], slots)
    _bisect(points, centres, things[below:], region[middle:], slots)


def _longer_axis(points: Sequence[Point]) -> int:
    wide, high = (max(axis) - min(axis) for axis in zip(*points, strict=True))
    return 0 if wide >= high else 1
