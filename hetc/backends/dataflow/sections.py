"""Sections: which stages are on the chip at one time.

Interval dynamic programming over the stages in the order of execution: a section is a row of whole
blocks, or a part of one block. Loading a section costs its time once a token, or once an iteration
where a block is in parts, so that everything is one section where it fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hetc.backends.dataflow.fit import Capacity, Demand, fit, total
from hetc.backends.dataflow.sizing import Wish, share_lanes
from hetc.errors import BackendError

Place = tuple[int, int]


@dataclass(frozen=True)
class Unit:
    """A stage as the search sees it: block, number in it, least demand, its work in lane-cycles,
    the lanes that are useful to it, and what its streams take of the memory."""

    block: int
    number: int
    least: Demand
    work: float
    useful: int
    memory_cycles: float


def find_sections(
    units: Sequence[Unit],
    repeats: Sequence[int],
    capacity: Capacity,
    lanes: int,
    reconfigure_cycles: float,
) -> tuple[tuple[Place, ...], ...]:
    """The cheapest cut of `units`, as (block, number) by section.

    A section costs its loading, and the chain of its stages: each on the lanes that are useful to
    it, or on its share where there are fewer. Raises BackendError (HETC-E032) where one stage alone
    does not fit.
    """
    whole = _whole_blocks(units)
    best: list[float] = [0.0]
    cut_before: list[int] = [0]
    for stop in range(1, len(units) + 1):
        choices: list[tuple[float, int]] = []
        for start in range(stop - 1, -1, -1):
            part = units[start:stop]
            if fit(total(unit.least for unit in part), capacity):
                break
            times = _loads(part, repeats, whole)
            if times is not None and best[start] < float("inf"):
                cost = times * reconfigure_cycles + _chain(part, repeats, lanes)
                choices.append((best[start] + cost, start))
        cost, start = min(choices, default=(float("inf"), stop - 1))
        best.append(cost)
        cut_before.append(start)
    if best[-1] == float("inf"):
        raise _misfit(units, capacity)
    found: list[tuple[Place, ...]] = []
    stop = len(units)
    while stop:
        start = cut_before[stop]
        found.append(tuple((unit.block, unit.number) for unit in units[start:stop]))
        stop = start
    return tuple(reversed(found))


def _chain(part: Sequence[Unit], repeats: Sequence[int], lanes: int) -> float:
    """Cycles of a token's passes through these stages: by block, the longer of the stages one
    after the other and of what memory takes."""
    given = share_lanes([Wish(unit.work, unit.useful) for unit in part], lanes)
    computed: dict[int, float] = {}
    read: dict[int, float] = {}
    for unit, count in zip(part, given, strict=True):
        computed[unit.block] = computed.get(unit.block, 0.0) + unit.work / count
        read[unit.block] = read.get(unit.block, 0.0) + unit.memory_cycles
    return sum(repeats[block] * max(computed[block], read[block]) for block in computed)


def _whole_blocks(units: Sequence[Unit]) -> dict[int, int]:
    """Block -> how many stages it has."""
    found: dict[int, int] = {}
    for unit in units:
        found[unit.block] = found.get(unit.block, 0) + 1
    return found


def _loads(part: Sequence[Unit], repeats: Sequence[int], whole: dict[int, int]) -> int | None:
    """How often a section of these stages is loaded in a token; None where it may not be one."""
    here: dict[int, int] = {}
    for unit in part:
        here[unit.block] = here.get(unit.block, 0) + 1
    if all(here[block] == whole[block] for block in here):
        return 1
    return repeats[part[0].block] if len(here) == 1 else None


def _misfit(units: Sequence[Unit], capacity: Capacity) -> BackendError:
    for unit in units:
        for lack in fit(unit.least, capacity):
            return BackendError(
                "HETC-E032",
                f"a stage needs more {lack.resource} than a socket has",
                at=lack.place or f"b{unit.block}.s{unit.number}",
                expected=f"at most {lack.bound:,}",
                found=f"{lack.demand:,}, {lack.shortfall:,} too many",
                do=lack.lever,
            )
    raise AssertionError("stages that fit alone can be sections of their own")
