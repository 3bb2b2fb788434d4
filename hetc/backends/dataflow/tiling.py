"""Lanes in groups and tiles of a matrix: how N and K are cut over the lanes of a stage.

A group of lanes makes `pcu_lanes` outputs at a time, each lane of it from a part of K. With fewer
groups of outputs than lanes, K is split and one more unit a group adds the parts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

TILE_BYTES = 256 * 1024
_FEWEST_TILES = 16
# Of the memory units that a stream has, so that a tile is small beside its credits.
TILES_IN_UNITS = 8
_SMALLEST_TILE = 4096


@dataclass(frozen=True)
class Grouping:
    """`groups` of lanes; outputs take `rounds` passes, filled to the fraction `fill`.

    The lanes of a group share its outputs: `split_rows` times `split_k` of them.
    """

    groups: int = 1
    split_k: int = 1
    split_rows: int = 1
    rounds: int = 1
    fill: float = 1.0

    @property
    def lanes(self) -> int:
        return self.groups * self.split_k * self.split_rows

    @property
    def cost(self) -> tuple[bool, int, int]:
        """What to have less of: a split of K first, then units."""
        return self.split_k > 1, self.lanes + self.reducers, self.split_k

    @property
    def reducers(self) -> int:
        """Units that add the parts of a split K."""
        return self.groups * self.split_rows if self.split_k > 1 else 0


def group_lanes(
    outputs: int, inputs: int, rows: int, width: int, wanted: int, at_most: int
) -> Grouping:
    """The grouping of `at_most` lanes at most that does the work of `wanted` with fewest units, or
    most of it; `width` outputs are made by one group at a time. Rows are split before K is."""
    slices = max(1, -(-outputs // width))
    best: Grouping | None = None
    for rounds in range(1, slices + 1):
        groups = -(-slices // rounds)
        if groups > at_most:
            continue
        fill = slices / (rounds * groups)
        for copies in {1, *_splits(wanted, at_most, groups * fill, groups)}:
            split_rows = min(rows, copies)
            split_k = min(inputs, copies // split_rows)
            found = Grouping(groups, split_k, split_rows, rounds, fill)
            if best is None or _better(found, best, wanted):
                best = found
        if groups == 1:
            break
    assert best is not None, "one group of one lane always fits"
    return best


def _splits(wanted: int, at_most: int, work: float, groups: int) -> tuple[int, ...]:
    """Lanes a group: enough for what is wanted, and as many as there are."""
    most = at_most // groups
    return tuple(split for split in (math.ceil(wanted / work), most) if 1 <= split <= most)


def _better(found: Grouping, best: Grouping, wanted: int) -> bool:
    """Enough work first, then no split of K, then fewer units."""
    does, did = found.lanes * found.fill, best.lanes * best.fill
    if min(does, wanted) != min(did, wanted):
        return does > did
    return found.cost < best.cost


def tile_aim(total_bytes: int, most: int) -> int:
    """Bytes of a tile: small beside its stream, and beside the units that hold it."""
    return max(_SMALLEST_TILE, min(TILE_BYTES, most, total_bytes // _FEWEST_TILES))


def tile_inputs(outputs: int, inputs: int, element_bytes: int, total_bytes: int, most: int) -> int:
    """How much of K is in one tile of `outputs` rows: a divisor of K, for tiles of 256 KiB or
    `most` bytes, and smaller ones where the whole stream is small."""
    aim = tile_aim(total_bytes, most)
    deepest = max(1, min(inputs, aim // (outputs * element_bytes)))
    return next(size for size in range(deepest, 0, -1) if inputs % size == 0)
