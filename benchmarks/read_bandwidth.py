"""How fast this machine reads memory, by the kind of code that the native engine runs."""

from __future__ import annotations

import time

import numpy as np

from hetc.backends.native.module import FUNCTION, module_text
from hetc.backends.native.ssa import F32, I64, LANES, PTR, Emitter, Ssa, vector
from hetc.runtime.native.jit import Compiled
from hetc.runtime.native.threads import ThreadPool

_SUMS = 8
_STEP_BYTES = _SUMS * LANES * 4


class ReadBandwidth:
    """Sums a buffer larger than the caches, each thread one stream of it."""

    def __init__(self, threads: int, megabytes: int = 512) -> None:
        self._data = np.ones(megabytes * 2**20 // 4, np.float32)
        self._function = Compiled(module_text(_reader()), FUNCTION, at="read bandwidth")
        self._pool = ThreadPool(threads)
        share = self._data.nbytes // threads // _STEP_BYTES * _STEP_BYTES
        self._bytes = share * threads
        # Address, bytes, and room for the sum, which must not be left out.
        self._arguments = np.zeros((threads, 16), np.int64)
        self._arguments[:, 0] = self._data.ctypes.data + share * np.arange(threads)
        self._arguments[:, 1] = share

    def measure(self) -> float:
        """GB/s of one pass over the buffer."""
        addresses = [row.ctypes.data for row in self._arguments]
        start = time.perf_counter()
        self._pool.run(lambda unit: self._function(addresses[unit]))
        return self._bytes / (time.perf_counter() - start) / 1e9

    def close(self) -> None:
        """End the threads."""
        self._pool.close()


def _reader() -> Emitter:
    e, arguments = Emitter(), Ssa("%args", PTR)
    base, count = e.load(arguments, PTR), e.load(e.offset(arguments, e.index(8)), I64)

    def step(at: Ssa, *sums: Ssa) -> list[Ssa]:
        line = e.offset(base, at)
        places = (e.offset(line, e.index(4 * LANES * place)) for place in range(_SUMS))
        return [
            e.add(sum, e.load(place, vector(LANES, F32)))
            for sum, place in zip(sums, places, strict=True)
        ]

    zero = e.constant("0.0", vector(LANES, F32))
    total, *rest = e.loop(e.index(0), count, _STEP_BYTES, step, [zero] * _SUMS)
    for sum in rest:
        total = e.add(total, sum)
    e.store(total, e.offset(arguments, e.index(16)))
    return e
