"""Memory of the stub of the CUDA driver: every access is inside one allocation, or a violation."""

from __future__ import annotations

import bisect
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
# What nobody wrote: NaN in every float type, and no index of anything.
_JUNK = 0xFF
_ALIGNMENT, _GUARD = 256, 4096


class Violation(AssertionError):
    """What a GPU would not notice, or notice too late."""


class StubMemory:
    """Device memory at made-up addresses, and pinned memory at those of the host."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._next = 0x7F0000000000
        self._device: dict[int, Bytes] = {}
        self._pinned: dict[int, Bytes] = {}

    @property
    def used(self) -> int:
        """Bytes of the device in use."""
        return sum(held.size for held in self._device.values())

    @property
    def free(self) -> int:
        """Bytes of the device that are left."""
        return self._limit - self.used

    @property
    def live(self) -> dict[str, int]:
        """Allocations by kind."""
        return {"device": len(self._device), "pinned": len(self._pinned)}

    def allocate(self, size: int) -> int | None:
        """The address of new device memory; None where it does not suffice."""
        if size > self.free:
            return None
        address = self._next
        self._next += -(-(size + _GUARD) // _ALIGNMENT) * _ALIGNMENT
        self._device[address] = np.full(size, _JUNK, np.uint8)
        return address

    def allocate_pinned(self, size: int) -> int:
        """The address of new pinned memory."""
        held = np.full(size, _JUNK, np.uint8)
        address = int(held.ctypes.data)
        self._pinned[address] = held
        return address

    def release(self, address: int, *, pinned: bool) -> bool:
        """Free what begins at `address`; False where nothing does."""
        return (self._pinned if pinned else self._device).pop(address, None) is not None

    def base(self, address: int) -> int | None:
        """The beginning of the allocation that has `address`."""
        for held in (self._device, self._pinned):
            starts = sorted(held)
            index = bisect.bisect_right(starts, address) - 1
            if index >= 0 and address < starts[index] + held[starts[index]].size:
                return starts[index]
        return None

    def view(self, address: int, size: int, *, pinned: bool = False) -> Bytes:
        """The bytes at `address`; raises Violation outside of one allocation."""
        held = self._pinned if pinned else self._device
        base = self.base(address)
        if base is None or base not in held or address + size > base + held[base].size:
            kind = "pinned memory" if pinned else "device memory"
            raise Violation(f"{size} bytes at {address:#x} are not {kind}")
        return held[base][address - base : address - base + size]

    def array(self, address: int, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        """Device memory as an array, for kernels."""
        wanted = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * wanted.itemsize
        found: NDArray[Any] = self.view(address, size).view(wanted)
        return found.reshape(shape)
