"""Lanes in groups and tiles of a matrix: how N and K are cut over the lanes of a stage.

A group of lanes makes `pcu_lanes` outputs at a time, each lane of it from a part of K. With fewer
groups of outputs than lanes, K is split and one more unit a group adds the parts.
"""

from __future__ import annotations

from dataclasses import dataclass

TILE_BYTES = 256 * 1024
_FEWEST_TILES = 16
# Of the memory units that a stream has, so that a tile is small beside its credits.
TILES_IN_UNITS = 8
_SMALLEST_TILE = 4096


@dataclass(frozen=True)
class Grouping:
    """`groups` of `split_k` lanes; outputs take `rounds` passes, filled to the fraction `fill`."""

    groups: int
    split_k: int
    rounds: int
    fill: float

    @property
    def lanes(self) -> int:
        return self.groups * self.split_k

    @property
    def cost(self) -> tuple[bool, int, int]:
        """What to have less of: a split of K first, then units."""
        return self.split_k > 1, self.lanes + self.reducers, self.split_k

    @property
    def reducers(self) -> int:
        """Units that add the parts of a split K."""
        return self.groups if self.split_k > 1 else 0


def group_lanes(outputs: int, inputs: int, width: int, wanted: int, at_most: int) -> Grouping:
    """The grouping of `at_most` lanes at most that does the work of `wanted` with fewest lanes, or
    most of it; `width` outputs are made by one group at a time."""
    slices = max(1, -(-outputs // width))
    best: Grouping | None = None
    for rounds in range(1, slices + 1):
        groups = -(-slices // rounds)
        if groups > at_most:
            continue
        fill = slices / (rounds * groups)
        for split_k in {1, *_splits(groups, fill, wanted, at_most, inputs)}:
            found = Grouping(groups, split_k, rounds, fill)
            if best is None or _better(found, best, wanted):
                best = found
        if groups == 1:
            break
    assert best is not None, "one group of one lane always fits"
    return best


def _splits(groups: int, fill: float, wanted: int, at_most: int, inputs: int) -> tuple[int, ...]:
    enough = int(-(-wanted // (groups * fill)))
    most = min(at_most // groups, max(1, inputs))
    return tuple(split for split in (enough, most) if 1 <= split <= most)


def _better(found: Grouping, best: Grouping, wanted: int) -> bool:
    """Enough work first, then no split of K, then fewer units."""
    does, did = found.lanes * found.fill, best.lanes * best.fill
    if min(does, wanted) != min(did, wanted):
        return does > did
    return found.cost < best.cost


def tile_inputs(outputs: int, inputs: int, element_bytes: int, total_bytes: int, most: int) -> int:
    """How much of K is in one tile of `outputs` rows: a divisor of K, for tiles of 256 KiB or
    `most` bytes, and smaller ones where the whole stream is small."""
    aim = max(_SMALLEST_TILE, min(TILE_BYTES, most, total_bytes // _FEWEST_TILES))
    deepest = max(1, min(inputs, aim // (outputs * element_bytes)))
    return next(size for size in range(deepest, 0, -1) if inputs % size == 0)
