"""A decode half that was made in this process, run a step at a time on a cache of the caller's."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hetc.bundle.native import WEIGHTS_FILE
from hetc.runtime.native.cache import Cache
from hetc.runtime.native.engine import Engine, NativeOptions


@dataclass(frozen=True)
class MadeFiles:
    """What a bundle would hold for the engine: `text` gives a file by its name, `weights` are
    packed."""

    text: Callable[[str], bytes]
    weights: NDArray[np.uint8]

    def read_bytes(self, rel: str) -> bytes:
        """The content of a file."""
        return self.text(rel)

    def mapped(self, rel: str) -> NDArray[np.uint8]:
        """The packed weights."""
        assert rel == WEIGHTS_FILE, "nothing else is mapped"
        return self.weights


class NativeStep:
    """The decode half of `files`; its threads end when nothing holds it any more.

    Raises as `NativeExecutor.prepare` does.
    """

    def __init__(
        self, files: MadeFiles, vocabulary: int, options: NativeOptions | None = None
    ) -> None:
        self._engine = Engine(options or NativeOptions())
        self._layout = self._engine.open(files)
        self._function = self._engine.compile(files, "decode")
        self._engine.ready()
        self._vocabulary = vocabulary
        weakref.finalize(self, self._engine.close)

    def cache(self, batch: int, tokens: int) -> Cache:
        """An empty cache with room for so many tokens."""
        return Cache(self._layout, batch, tokens)

    def run(
        self, tokens: NDArray[np.integer], pasts: NDArray[np.int64], cache: Cache
    ) -> NDArray[np.float32]:
        """Logits f32 [B,T,V] of `tokens` [B,T] behind `pasts` [B], whose rows join the cache."""
        ids = np.ascontiguousarray(tokens, np.int64)
        rows = (*ids.shape, self._layout.logit_columns)
        logits: NDArray[Any] = np.empty(rows, np.float32)
        self._engine.run("decode", self._function, ids, pasts, cache, logits)
        return logits[..., : self._vocabulary]
