"""How many row groups: the simulator says."""

from __future__ import annotations

from collections.abc import Callable

from hetc.backends.dataflow.planner import Planner
from hetc.backends.dataflow.row_groups import group_counts
from hetc.backends.dataflow.simulate import Speeds, simulate
from hetc.errors import BackendError

# More groups must be this much faster: they are more to hold on the chip.
_GAIN = 2e-3


def fastest(
    grouped: Callable[[int], Planner], batch: int, asked: int | None, speeds: Speeds
) -> Planner:
    """The planner with so many row groups that a token is soonest done; with those that a user
    `asked` for, where that can be.

    `grouped` makes one. Raises BackendError HETC-E035 where what was asked for cannot be.
    """
    if asked is not None:
        return _as_asked(grouped, batch, asked)
    best = grouped(1)
    counts = group_counts(batch)
    cycles = simulate(best.plan(), speeds).cycles if counts else 0.0
    for count in counts:
        planner = grouped(count)
        if not _fits(planner):
            break
        found = simulate(planner.plan(), speeds).cycles
        if found < cycles * (1 - _GAIN):
            best, cycles = planner, found
    return best


def _fits(planner: Planner) -> bool:
    """Whether row groups pass some block, and what stays for them fits on the chip."""
    try:
        return planner.pipelines and bool(planner.filled)
    except BackendError as error:
        if error.code not in ("HETC-E032", "HETC-E033"):
            raise
        return False


def _as_asked(grouped: Callable[[int], Planner], batch: int, asked: int) -> Planner:
    if asked < 1 or batch % asked:
        found = f"{asked} groups of {batch} sequences"
    else:
        planner = grouped(asked)
        if asked == 1 or _fits(planner):
            return planner
        found = "no loop whose stages, and what stays in them, are on the chip together"
    raise BackendError(
        "HETC-E035",
        "the sequences of the batch cannot pass in the row groups that were asked for",
        at="row_groups",
        expected="equal groups, one behind the other through the stages of a loop",
        found=found,
        do="ask for fewer row groups, or leave it to the planner",
    )
