"""What both halves of a bundle share: mapped weights, threads, scratch memory, the layout."""

from __future__ import annotations

import mmap
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hetc.bundle.native import (
    ARGUMENTS,
    LAYOUT_FILE,
    WEIGHTS_FILE,
    NativeLayout,
    Variant,
    half_file,
)
from hetc.errors import RuntimeFault
from hetc.runtime.cores import physical_cores
from hetc.runtime.executor import Half
from hetc.runtime.handoff import size_of
from hetc.runtime.native.cache import Cache
from hetc.runtime.native.code_cache import CodeCache, user_folder
from hetc.runtime.native.cpu import cpu_features
from hetc.runtime.native.jit import Compiled
from hetc.runtime.native.memory import Scratch
from hetc.runtime.native.pace import Pace
from hetc.runtime.native.threads import ThreadPool

FUNCTION = "half"


class NativeFiles(Protocol):
    """Where the engine's files come from: a bundle, or what was just made."""

    def read_bytes(self, rel: str) -> bytes:
        """The content of a file."""
        ...

    def mapped(self, rel: str) -> mmap.mmap | NDArray[np.uint8]:
        """A file as memory."""
        ...


@dataclass(frozen=True)
class NativeOptions:
    """`threads`: None for one a physical core, and for one alone while decode is faster so.
    `variant`: None for the best that this CPU runs. `code_folder`: where compiled code is kept for
    the next load, None for nowhere."""

    threads: int | None = None
    variant: str | None = None
    code_folder: Path | None = field(default_factory=user_folder)


class Engine:
    """The memory and the threads on which the halves of one bundle run, one call at a time."""

    def __init__(self, options: NativeOptions) -> None:
        self._pool = ThreadPool(options.threads or physical_cores())
        self._options = options
        self._code_cache = None if options.code_folder is None else CodeCache(options.code_folder)
        self._pace = Pace(self._pool.units) if options.threads is None else None
        self._layout: NativeLayout | None = None
        self._weights: Future[NDArray[Any]] | None = None
        self._shared = Scratch()
        self._private = [Scratch() for _ in range(self._pool.units)]
        self._barrier = Scratch()

    def open(self, files: NativeFiles) -> NativeLayout:
        """Begin to map and check the weights, once for both halves; `ready` waits for it.

        Raises BundleError for a layout that is not valid.
        """
        if self._layout is None:
            layout = NativeLayout.from_bytes(files.read_bytes(LAYOUT_FILE))
            # Hashing gives up Python's lock, so that halves are compiled meanwhile.
            thread = ThreadPoolExecutor(max_workers=1)
            self._weights = thread.submit(_mapped, files, layout.weight_bytes)
            thread.shutdown(wait=False)
            self._layout = layout
        return self._layout

    def ready(self) -> NDArray[Any]:
        """The mapped weights, once they are checked.

        Raises BundleError for a digest that differs, RuntimeFault HETC-R041 for a file of another
        size than the layout says, R004 after `close`.
        """
        if self._weights is None:
            raise RuntimeFault(
                "HETC-R004", "this executor is closed", at="native", do="load the bundle again"
            )
        return self._weights.result()

    def compile(self, files: NativeFiles, half: Half) -> Compiled:
        """The machine code of a half; raises as `Compiled` does."""
        file = half_file(half, self._variant().name)
        text = files.read_bytes(file).decode()
        return Compiled(text, FUNCTION, at=f"{half} ({file})", code_cache=self._code_cache)

    def run(
        self,
        half: Half,
        function: Compiled,
        tokens: NDArray[np.int64],
        pasts: NDArray[np.int64],
        cache: Cache,
        logits: NDArray[np.float32],
    ) -> None:
        """Run a half on `tokens` [B, T], each sequence behind its own of `pasts` [B] tokens; fills
        `logits` and appends to `cache`."""
        # Callers share scratch memory, the barrier and the threads.
        with self._pool.turn():
            layout, weights = self._layout, self.ready()
            assert layout is not None
            batch, count = tokens.shape
            pace = self._pace if half == "decode" else None
            units = self._pool.units if pace is None else pace.threads
            sizes = {"B": batch, "T": count, "C": cache.capacity}
            sizes |= {"N": units, "K": self._pool.units}
            needed = layout.scratch[half]
            private = _bytes(needed.private, **sizes)
            given = {
                "tokens": tokens.ctypes.data,
                "logits": logits.ctypes.data,
                "weights": weights.ctypes.data,
                "state": cache.memory.ctypes.data,
                "pasts": pasts.ctypes.data,
                "shared": self._shared.address(_bytes(needed.shared, **sizes)),
                "barrier": self._barrier.zeroed(_bytes(needed.barrier, **sizes)),
                **sizes,
            }
            arguments = np.empty((units, len(ARGUMENTS)), np.int64)
            for unit, scratch in enumerate(self._private[:units]):
                own = {**given, "private": scratch.address(private), "unit": unit}
                arguments[unit] = [own[name] for name in ARGUMENTS]
            rows = [row.ctypes.data for row in arguments]
            start = time.perf_counter()
            self._pool.run(lambda unit: function(rows[unit]), units)
            if pace is not None:
                pace.took(time.perf_counter() - start, batch * count)

    def close(self) -> None:
        """End the threads and let go of the weights."""
        with self._pool.turn():
            self._pool.close()
            self._weights = None
            self._layout = None

    def _variant(self) -> Variant:
        assert self._layout is not None
        features, wanted = cpu_features(), self._options.variant
        for variant in self._layout.variants:
            if features.issuperset(variant.needs) and wanted in (None, variant.name):
                return variant
        raise RuntimeFault(
            "HETC-R042",
            "this bundle has no native code for the CPU at hand",
            at=LAYOUT_FILE,
            expected=wanted or ", ".join(variant.name for variant in self._layout.variants),
            do="run it with --executor onnx",
        )


@lru_cache(maxsize=256)
def _bytes(dim: str, **sizes: int) -> int:
    """The bytes of scratch memory that a layout asks for; every token asks anew."""
    return size_of(dim, sizes, at=f"scratch, {dim}")


def _mapped(files: NativeFiles, expected: int) -> NDArray[Any]:
    """The packed weights, mapped: processes that run one bundle share them."""
    data = np.frombuffer(files.mapped(WEIGHTS_FILE), np.uint8)
    if data.nbytes != expected:
        raise RuntimeFault(
            "HETC-R041",
            "the packed weights and their layout do not fit",
            at=WEIGHTS_FILE,
            expected=f"{expected} bytes",
            found=f"{data.nbytes} bytes",
            do="compile the bundle again",
        )
    return data
