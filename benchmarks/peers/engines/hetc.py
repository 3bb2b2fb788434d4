"""hetc: a bundle's two halves, step by step, as `Bundle.generate` runs them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from benchmarks.peers.engine import Answer, Room
from hetc.driver import load
from hetc.runtime import Bundle
from hetc.runtime.cores import physical_cores
from hetc.runtime.halves import Halves


class Hetc:
    """A bundle on the executor of that name, which runs one thread a physical core."""

    def __init__(self, executor: str) -> None:
        self._executor = executor
        self._bundle: Bundle | None = None

    def load(self, model: Path, threads: int, room: Room) -> None:
        if threads != physical_cores():
            raise ValueError(f"hetc runs {physical_cores()} threads here, not {threads}")
        self._bundle = load(model, executor=self._executor)

    def logits(self, ids: list[int]) -> np.ndarray:
        """Of every position, f32[S, V]: the first by prefill, the others by decode."""
        halves = self._halves()
        halves.bind(batch=1, context=len(ids))
        logits, state = halves.prefill(np.asarray([ids[:1]], dtype=np.int64))
        found = [logits[0, -1]]
        state, _ = halves.hand_off(state)
        for token in ids[1:]:
            logits, state = halves.decode(np.array([[token]]), state)
            found.append(logits[0, -1])
        return np.stack(found)

    def _halves(self) -> Halves:
        if self._bundle is None:
            raise RuntimeError("no bundle is loaded")
        return self._bundle._require_halves()

    def generate(self, prompts: list[list[int]], new: int) -> Answer:
        halves = self._halves()
        halves.bind(batch=len(prompts), context=len(prompts[0]) + new)
        start = time.perf_counter()
        logits, state = halves.prefill(np.asarray(prompts, dtype=np.int64))
        found = [logits[:, -1:].argmax(axis=-1)]
        arrivals = [time.perf_counter() - start]
        state, _ = halves.hand_off(state)
        for _ in range(1, new):
            logits, state = halves.decode(found[-1], state)
            found.append(logits[:, -1:].argmax(axis=-1))
            arrivals.append(time.perf_counter() - start)
        return Answer(arrivals, np.concatenate(found, axis=1).tolist())
