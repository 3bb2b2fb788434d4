"""States on their way to the host: pinned memory that is used again, and handles that wait."""

from __future__ import annotations

import ctypes
import warnings
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hetc.bundle.dtypes import BY_NAME
from hetc.errors import Reason, RuntimeFault
from hetc.runtime.cuda.device import Device, release_all, releasing
from hetc.runtime.cuda.layout import Span


class Arrival:
    """After `event`, some memory of the host holds what it should."""

    def __init__(self, device: Device, event: int) -> None:
        self._device = device
        self._event = event
        self._happened = False

    def record(self) -> None:
        """It happens when the transfer stream has done what it was given."""
        self._device.driver.record(self._event, self._device.transfer)

    def wait(self) -> None:
        """Return when it has happened."""
        if not self._happened:
            with self._device.current():
                self._device.driver.synchronize_event(self._event)
            self._happened = True

    def happened(self) -> None:
        """Nobody need wait any more."""
        self._happened = True


@dataclass(frozen=True)
class HostTensor:
    """A state in pinned memory, as `State` wants its handles: reading it waits for it alone."""

    array: NDArray[Any]
    element: str
    arrival: Arrival

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes, those of the contract."""
        return self.array.shape

    @property
    def dtype(self) -> str:
        """Its element type, as hetc names it."""
        return self.element

    def numpy(self) -> NDArray[Any]:
        """The tensor, when it has arrived. The memory is its own for as long as someone holds it;
        nothing is copied."""
        self.arrival.wait()
        return self.array


class Block:
    """Pinned memory of one call. Its arrays keep `raw` alive, whose end gives the memory back, and
    `events` with it."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.address = ctypes.addressof(raw)
        self.events: list[int] = []

    def tensor(self, span: Span, element: str, shape: Sequence[int]) -> NDArray[Any]:
        """A part of it as an array."""
        whole = np.frombuffer(memoryview(self._raw), np.uint8)
        raw = whole[span.start : span.start + span.size]
        return raw.view(BY_NAME[element].numpy).reshape(shape)


class PinnedPool:
    """Pinned memory for states: allocating it takes longer than filling it, so it is kept.

    A block is free when nothing refers to its arrays any more. What is in use at `close` stays
    valid, and is freed by its last user.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._free: list[tuple[int, int]] = []
        self._arrivals: weakref.WeakSet[Arrival] = weakref.WeakSet()
        self._closed = False

    def take(self, size: int) -> Block:
        """A block of at least `size` bytes; in the context."""
        size = max(size, 1)
        fitting = [held for held in self._free if held[1] >= size]
        if fitting:
            held = min(fitting, key=lambda held: held[1])
            self._free.remove(held)
        else:
            # What is free is too small, and will be the next time.
            self._drop_free()
            held = (self._device.driver.allocate_pinned(size), size)
        self._device.join()
        raw = (ctypes.c_uint8 * held[1]).from_address(held[0])
        block = Block(raw)
        # At the end of the process the system takes everything back at once.
        weakref.finalize(raw, self._give_back, held, block.events).atexit = False
        return block

    def arrival(self, block: Block) -> Arrival:
        """Of what is copied into a block from now on; in the context."""
        block.events.append(self._device.take_event())
        found = Arrival(self._device, block.events[-1])
        self._arrivals.add(found)
        return found

    def close(self) -> None:
        """Wait for what is on its way, and free what nobody uses; in the context."""
        self._closed = True
        if not self._device.driver.lost:
            self._device.driver.synchronize(self._device.transfer)
            for arrival in list(self._arrivals):
                arrival.happened()
        self._drop_free()

    def _give_back(self, held: tuple[int, int], events: list[int]) -> None:
        # Called wherever the last array ends, in the middle of a capture too: no call of the
        # driver but at the very end.
        self._free.append(held)
        for event in events:
            self._device.return_event(event)
        try:
            with releasing(lambda: [self._device.leave]):
                if self._closed:
                    with self._device.current():
                        self._drop_free()
        except RuntimeFault as error:
            # There is no caller that an error could reach.
            what = f"pinned memory is not given back: {error.what} ({error.at}: {error.found})"
            warnings.warn(str(Reason(error.code, what)), RuntimeWarning, stacklevel=1)

    def _drop_free(self) -> None:
        if self._free and not self._device.driver.lost:
            # Copies into memory whose user did not wait for them.
            self._device.driver.synchronize(self._device.transfer)
            held, self._free = self._free, []
            free = self._device.driver.free_pinned
            release_all([partial(free, address) for address, _ in held])
