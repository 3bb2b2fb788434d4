"""The memory of the sockets: an image of bytes for each tier, and what lies where in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from hetc.backends.dataflow.schema import Allocation, Plan
from hetc.errors import PlanError
from hetc.ir.types import Array


@dataclass(frozen=True)
class Span:
    """Bytes that lie one behind the other in a tier."""

    tier: str
    address: int
    bytes: int


class Memory:
    """Bytes u8[sockets, size] of each tier, as large as the plan's allocations.

    Raises PlanError (HETC-L304) where allocations overlap or their numbers contradict each other.
    """

    def __init__(self, plan: Plan) -> None:
        repeats = {block.id: block.repeat for block in plan.blocks}
        sizes: dict[str, int] = {}
        self._pieces: dict[tuple[str, str, bool], list[Allocation]] = {}
        for item in plan.memory:
            if item.count != repeats.get(item.block):
                found = f"{item.count} of {repeats.get(item.block, 0)} iterations"
                raise _wrong(item, "one place for each iteration of its block", found)
            if min(item.offset, item.stride, item.bytes, item.rows[0]) < 0:
                raise _wrong(item, "no negative numbers", item)
            sizes[item.tier] = max(sizes.get(item.tier, 0), _end(item, item.count - 1))
            key = item.block, item.tensor, item.use == "table"
            self._pieces.setdefault(key, []).append(item)
        _check_overlaps(plan.memory)
        sockets = plan.target.sockets
        self.sizes = sizes
        self._images = {tier: np.zeros((sockets, n), np.uint8) for tier, n in sizes.items()}

    def pieces(self, block: str, tensor: str, *, table: bool = False) -> tuple[Allocation, ...]:
        """The allocations of a tensor by rows; raises PlanError (HETC-L304) where there is none or
        they do not join."""
        found = sorted(self._pieces.get((block, tensor, table), ()), key=lambda item: item.rows)
        if not found:
            raise PlanError(
                "HETC-L304",
                "a tensor has no place in memory",
                at=f"{block} {tensor}",
                expected="a table" if table else "a matrix, vector or state",
                do="plan the graph again",
            )
        ends = [0, *(item.rows[1] for item in found)]
        for begin, item in zip(ends, found, strict=False):
            if item.rows[0] != begin or item.rows[1] <= begin:
                raise _wrong(item, f"rows from {begin} on", item.rows)
        return tuple(found)

    def read(self, tier: str, address: int, nbytes: int) -> Array:
        """A copy of the bytes u8[sockets, nbytes] at an address."""
        self._check(tier, address, nbytes)
        return self._images[tier][:, address : address + nbytes].copy()

    def write(self, tier: str, address: int, data: Array) -> None:
        """Put the bytes u8[sockets, n] at an address."""
        self._check(tier, address, data.shape[1])
        self._images[tier][:, address : address + data.shape[1]] = data

    def _check(self, tier: str, address: int, nbytes: int) -> None:
        image = self._images.get(tier)
        size = 0 if image is None else image.shape[1]
        if not 0 <= address <= address + nbytes <= size:
            raise PlanError(
                "HETC-L305",
                "an address outside of what the plan allocates",
                at=tier,
                expected=f"within {size} bytes",
                found=f"{nbytes} bytes at {address}",
                do="plan the graph again",
            )


def place(item: Allocation, iteration: int) -> int:
    """The address of an allocation in one iteration of its block."""
    return item.offset + iteration * item.stride


def require_bytes(item: Allocation, nbytes: int) -> None:
    """Raise PlanError (HETC-L304) unless the allocation has this size."""
    if item.bytes != nbytes:
        raise _wrong(item, f"{nbytes} bytes", f"{item.bytes} bytes")


def _end(item: Allocation, iteration: int) -> int:
    return place(item, iteration) + item.bytes


def _check_overlaps(memory: Iterable[Allocation]) -> None:
    def spans() -> Iterator[tuple[str, int, int, Allocation]]:
        for item in memory:
            for iteration in range(item.count):
                yield item.tier, place(item, iteration), _end(item, iteration), item

    ordered = sorted(spans(), key=lambda span: span[:3])
    for (tier, _, end, before), (next_tier, begin, _, item) in itertools.pairwise(ordered):
        if tier == next_tier and begin < end:
            raise _wrong(item, f"an address from {end} on, behind {before.tensor}", begin)


def _wrong(item: Allocation, expected: object, found: object) -> PlanError:
    return PlanError(
        "HETC-L304",
        "an allocation of the plan cannot be right",
        at=f"{item.block} {item.tensor} in {item.tier}",
        expected=expected,
        found=found,
        do="plan the graph again",
    )
