"""PyTorch's OpenMP threads sleep soon after their work, while decode steps want their cores."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from functools import cache

# After so long without a step, threads spin again as they did.
_QUIET_SECONDS = 1.0
# What somebody set is left as it is.
_SET = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


class SoonAsleep:
    """While steps run, threads of GNU's OpenMP sleep as soon as their loop is done.

    They would spin for some milliseconds, on the cores on which the engine's threads begin
    meanwhile, unless there are more OpenMP threads than cores (the manual of libgomp on
    GOMP_SPINCOUNT). So there is one more: a thread has a team of its own, which does nothing.
    Other OpenMPs have no such rule, and nothing is done about them.
    """

    def __init__(self) -> None:
        self._last = 0.0
        self._thread: threading.Thread | None = None
        self._library = None if any(name in os.environ for name in _SET) else _gnu_openmp()

    def step(self) -> None:
        """A step begins."""
        if self._library is None:
            return
        self._last = time.monotonic()
        if self._thread is None or not self._thread.is_alive():
            team = threading.Thread(target=self._hold, name="hetc-soon-asleep", daemon=True)
            self._thread = team
            team.start()

    @property
    def is_held(self) -> bool:
        """Whether there is such a team now."""
        return self._thread is not None and self._thread.is_alive()

    def _hold(self) -> None:
        """Have a team until no step has begun for a while; it ends with its thread."""
        assert self._library is not None
        nothing = ctypes.cast(self._library.omp_get_level, ctypes.c_void_p)
        self._library.GOMP_parallel(nothing, None, 2, 0)
        while (rest := self._last + _QUIET_SECONDS - time.monotonic()) > 0:
            time.sleep(rest)


@cache
def soon_asleep() -> SoonAsleep:
    """The one of this process."""
    return SoonAsleep()


def _gnu_openmp() -> ctypes.CDLL | None:
    """The library that PyTorch has its threads from, if it is GNU's."""
    import torch

    library = ctypes.CDLL(torch._C.__file__)
    is_gnu = hasattr(library, "GOMP_parallel") and not hasattr(library, "kmp_get_blocktime")
    return library if is_gnu else None
