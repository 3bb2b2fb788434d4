"""Row groups: which sequences of the batch pass a stage together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hetc.ir.dims import symbols_of
from hetc.ir.lockstep import Shards
from hetc.ir.op import Value


@dataclass(frozen=True)
class RowGroup:
    """Group `number` of `count` equal ones, in the order of the batch."""

    number: int = 0
    count: int = 1

    @property
    def is_last(self) -> bool:
        return self.number == self.count - 1

    def of(self, whole: int) -> range:
        """This group's of so many things that lie sequence after sequence."""
        each = whole // self.count
        return range(self.number * each, (self.number + 1) * each)

    def rows(self, value: Value, shards: Shards) -> Shards:
        """This group's rows of a value of all sequences; all of one that the sequences share."""
        if self.count == 1 or not _is_by_sequence(value):
            return shards
        mine = self.of(shards[0].shape[0])
        return tuple(part[mine.start : mine.stop] for part in shards)


ALL = RowGroup()


def joined(value: Value, groups: Sequence[Shards]) -> Shards:
    """A value of all sequences, of what each group has of it."""
    if len(groups) == 1 or not _is_by_sequence(value):
        return groups[-1]
    return tuple(np.concatenate(parts) for parts in zip(*groups, strict=True))


def _is_by_sequence(value: Value) -> bool:
    return bool(value.shape) and "B" in symbols_of(value.shape[0])
