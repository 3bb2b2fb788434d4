"""Memory on the GPU and the pinned memory that it is filled from."""

from __future__ import annotations

import binascii
import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hetc.bundle import OpenBundle
from hetc.bundle.dtypes import BY_NAME
from hetc.bundle.launches import PlacedWeight
from hetc.errors import RuntimeFault
from hetc.runtime.cuda.device import Device, releasing
from hetc.runtime.cuda.plan_file import bad_plan

_CHUNK_BYTES = 32 * 2**20
# About what trained matrices have: products neither vanish nor overflow.
_RANDOM_SCALE = 0.02


class Growing:
    """One allocation, of the GPU or of pinned memory, that grows with what is asked of it; what it
    held is lost when it does."""

    def __init__(self, device: Device, *, pinned: bool = False) -> None:
        driver = device.driver
        self._device = device
        self._allocate = driver.allocate_pinned if pinned else driver.allocate
        self._free = driver.free_pinned if pinned else driver.free
        self.address = 0
        self.size = 0

    def require(self, size: int) -> None:
        """Have at least `size` bytes, which may lie elsewhere than before.

        Raises OutOfMemory, after which it holds nothing. In the context.
        """
        if size <= self.size:
            return
        if self.address:
            # Whoever works on it must be done.
            self._device.synchronize()
        self.free()
        self.address = self._allocate(size)
        self.size = size

    def free(self) -> None:
        """Give it back, when no work uses it."""
        address, self.address, self.size = self.address, 0, 0
        if address:
            self._free(address)


@contextmanager
def staging(device: Device, size: int) -> Iterator[NDArray[np.uint8]]:
    """`size` bytes of pinned memory as an array, for as long as the block lasts.

    The transfer stream is waited for before they are given back. In the context.
    """
    address = device.driver.allocate_pinned(size)
    driver = device.driver

    def give_back() -> None:
        driver.synchronize(device.transfer)
        driver.free_pinned(address)

    with releasing(lambda: [] if driver.lost else [give_back]):
        yield pinned_array(address, size)


def pinned_array(address: int, size: int) -> NDArray[np.uint8]:
    """Host memory as an array, which does not own it."""
    return np.frombuffer(memoryview((ctypes.c_uint8 * size).from_address(address)), np.uint8)


def upload_weights(
    weights: Sequence[PlacedWeight], bundle: OpenBundle, device: Device, base: int
) -> None:
    """Copy weights of a plan to where they lie behind `base`, through two pieces of pinned memory
    in turn.

    Raises RuntimeFault HETC-R056 for weights that are not what the plan says. In the context.
    """
    driver = device.driver
    chunk = min(_CHUNK_BYTES, max((placed.bytes for placed in weights), default=1))
    with staging(device, 2 * chunk) as pinned:
        events: list[int] = []
        turn = 0
        with releasing(lambda: [partial(device.return_event, event) for event in events]):
            events += (device.take_event() for _ in range(2))
            for placed in weights:
                target = base + placed.offset
                for piece in _pieces(placed, bundle, chunk):
                    half = pinned[turn % 2 * chunk :][: piece.size]
                    if turn > 1:
                        driver.synchronize_event(events[turn % 2])
                    half[:] = piece
                    driver.to_device(target, half.ctypes.data, piece.size, device.transfer)
                    driver.record(events[turn % 2], device.transfer)
                    target += piece.size
                    turn += 1


def _pieces(placed: PlacedWeight, bundle: OpenBundle, most: int) -> Iterator[NDArray[np.uint8]]:
    """The bytes of a placed weight, at most so many at a time."""
    wanted = BY_NAME[placed.element].numpy
    arrays = [bundle.weight(name) for name in placed.tensors]
    strange = [str(array.dtype) for array in arrays if array.dtype != wanted]
    if placed.data:
        arrays.append(_constant(placed))
    found = sum(array.nbytes for array in arrays)
    if found != placed.bytes or strange:
        raise RuntimeFault(
            "HETC-R056",
            "the weights of the bundle are not those of the launch plan",
            at=placed.name,
            expected=f"{placed.bytes} bytes of {placed.element}",
            found=f"{found} bytes" + (f", of {', '.join(sorted(set(strange)))}" if strange else ""),
            do="compile the model again",
        )
    lying = [array.T for array in arrays] if placed.transposed else arrays
    if placed.turn:
        lying = [_in_turns(placed, lying)]
    for array in lying:
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for start in range(0, raw.size, most):
            yield raw[start : start + most]


def _in_turns(placed: PlacedWeight, arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """Matrices below each other as one, in which both halves of all rows take turns."""
    shapes = [array.shape for array in arrays]
    widths = {shape[1:] for shape in shapes}
    rows = sum(shape[0] for shape in shapes if len(shape) == 2)
    if {len(shape) for shape in shapes} != {2} or len(widths) != 1 or rows % (2 * placed.turn):
        expected = f"matrices of {2 * placed.turn} n rows in all"
        raise bad_plan("rows cannot take turns", expected, shapes, placed.name)
    return np.concatenate(arrays).reshape(2, -1, placed.turn, *widths.pop()).swapaxes(0, 1)


def _constant(placed: PlacedWeight) -> NDArray[np.uint8]:
    try:
        return np.frombuffer(binascii.a2b_base64(placed.data, strict_mode=True), np.uint8)
    except binascii.Error as error:
        raise bad_plan("a constant is no base64", "base64", error, placed.name) from error


def random_weights(weights: Sequence[PlacedWeight], device: Device, base: int, seed: int) -> None:
    """Fill the memory of weights with random numbers, for measurements without a checkpoint.

    One chunk of each element type is made, and copied on the GPU as often as it takes. In the
    context.
    """
    driver = device.driver
    generator = np.random.default_rng(seed)
    with staging(device, _CHUNK_BYTES) as pinned:
        for element in sorted({placed.element for placed in weights}):
            same = [placed for placed in weights if placed.element == element]
            chunk = min(_CHUNK_BYTES, max(placed.bytes for placed in same))
            driver.synchronize(device.transfer)
            pinned[:chunk] = _random_bytes(generator, element, chunk)
            for placed in same:
                first, target = min(chunk, placed.bytes), base + placed.offset
                driver.to_device(target, pinned.ctypes.data, first, device.transfer)
                done = first
                while done < placed.bytes:
                    more = min(done, placed.bytes - done)
                    driver.copy(target + done, target, more, device.transfer)
                    done += more


def _random_bytes(generator: np.random.Generator, element: str, size: int) -> NDArray[Any]:
    dtype = BY_NAME[element].numpy
    count = -(-size // dtype.itemsize)
    if dtype.kind in "iub" and dtype.itemsize > 1:
        # Whatever these count or point at, it is there.
        found = np.zeros(size, np.uint8)
    elif dtype.kind in "iub":
        found = generator.integers(0, 256, size, dtype=np.uint8)
    else:
        numbers = generator.standard_normal(count, dtype=np.float32) * _RANDOM_SCALE
        found = numbers.astype(dtype).view(np.uint8)
    return found[:size]
