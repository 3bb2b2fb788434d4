"""CTranslate2's `Generator`; it takes tokens as text and tells each step by a callback."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import ctranslate2

from benchmarks.peers.engine import Answer, Room


class CTranslate2:
    """A directory of its converter; `compute` is its compute_type."""

    def __init__(self, compute: str) -> None:
        self._compute = compute
        self._generator: Any = None
        self._names: list[str] = []

    def load(self, model: Path, threads: int, room: Room) -> None:
        self._generator = ctranslate2.Generator(
            str(model), compute_type=self._compute, inter_threads=1, intra_threads=threads
        )
        self._names = json.loads((model / "vocabulary.json").read_text(encoding="utf-8"))

    def generate(self, prompts: list[list[int]], new: int) -> Answer:
        names = [[self._names[token] for token in ids] for ids in prompts]
        seen = [0.0] * new

        def step(result: Any) -> bool:
            # Called for every sequence of a step; the last call is the step's.
            seen[result.step] = time.perf_counter()
            return False

        start = time.perf_counter()
        found = self._generator.generate_batch(
            names,
            max_length=new,
            min_length=new,
            beam_size=1,
            sampling_topk=1,
            include_prompt_in_result=False,
            callback=step,
        )
        tokens = [list(result.sequences_ids[0]) for result in found]
        return Answer([moment - start for moment in seen], tokens)
