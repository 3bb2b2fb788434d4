"""Bandwidth and arithmetic of this machine, as NumPy measures them in about a second."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from hetc.targets.cpu import CPU


@dataclass(frozen=True)
class Measurement:
    """Rates of all cores together: reads out of each level in B/s, fp32 products in FLOP/s."""

    l2_bandwidth: float
    l3_bandwidth: float
    dram_bandwidth: float
    f32_rate: float


def measure(cpu: CPU) -> Measurement:
    """Time reads out of each memory level and a matrix product on all cores, in about a second.

    The best of several runs counts: other programs only ever make a run slower.
    """
    buffer = np.empty(_buffer_bytes(cpu) // 8, dtype=np.int64)
    with ThreadPoolExecutor(cpu.cores) as pool:
        # Each core touches its own share first, so that the pages lie in memory near to it.
        list(pool.map(lambda share: share.fill(1), np.array_split(buffer, cpu.cores)))
        dram = _read_bandwidth(pool, cpu.cores, buffer, seconds=0.4)
        # Half of a cache: the other half is left to whatever else lives there.
        l2 = _read_bandwidth(pool, cpu.cores, buffer[: cpu.l2_bytes // 16], seconds=0.1)
        l3 = _read_bandwidth(pool, cpu.cores, buffer[: cpu.l3_bytes // 16], seconds=0.1)
    return Measurement(l2, l3, dram, _gemm_rate(seconds=0.6))


def _buffer_bytes(cpu: CPU) -> int:
    """Four times the largest cache; at least 128 MiB, at most 4 GiB or an eighth of the memory."""
    wanted = max(128 << 20, 4 * max(cpu.l3_bytes, cpu.l2_bytes))
    return max(min(wanted, cpu.memory_bytes // 8, 4 << 30), 8 << 20)


def _read_bandwidth(
    pool: ThreadPoolExecutor, cores: int, buffer: npt.NDArray[np.int64], seconds: float
) -> float:
    """B/s of reading the buffer, one contiguous share a core; 0 for an empty buffer.

    A bitwise-or reduction reads every byte once, hardly computes, and runs without the
    interpreter's lock.
    """
    shares = [share for share in np.array_split(buffer, cores) if share.size]
    if not shares:
        return 0.0
    # A share that fits a cache takes microseconds; without repeats one would time the hand-over.
    repeats = max(1, (16 << 20) // (buffer.nbytes // len(shares)))

    def read(share: npt.NDArray[np.int64]) -> None:
        for _ in range(repeats):
            np.bitwise_or.reduce(share)

    best = _best_time(lambda: list(pool.map(read, shares)), seconds)
    return buffer.nbytes * repeats / best


def _gemm_rate(seconds: float) -> float:
    """FLOP/s of the best square fp32 product; larger ones are tried while time is left."""
    rate, end = 0.0, time.perf_counter() + seconds / 2
    for size in (512, 1024, 2048):
        a = np.ones((size, size), dtype=np.float32)
        product = np.empty_like(a)
        best = _best_time(partial(np.matmul, a, a, out=product), seconds / 4)
        rate = max(rate, 2.0 * size**3 / best)
        if time.perf_counter() > end:
            break
    return rate


def _best_time(work: Callable[[], object], seconds: float) -> float:
    """Shortest time of one call, over at least two calls and as many more as fit into `seconds`."""
    best, end, calls = math.inf, time.perf_counter() + seconds, 0
    while calls < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
        calls += 1
    return max(best, 1e-9)
