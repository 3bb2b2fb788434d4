"""ONNX Runtime GenAI's `Generator`, token by token, on a directory of its model builder."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as genai

from benchmarks.peers.engine import Answer, Room


class OnnxRuntimeGenAI:
    """Its session's own settings, but for the threads."""

    def __init__(self) -> None:
        self._model: Any = None

    def load(self, model: Path, threads: int, room: Room) -> None:
        session = {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
        config = genai.Config(str(model))
        config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
        self._model = genai.Model(config)

    def generate(self, prompts: list[list[int]], new: int) -> Answer:
        reach = len(prompts[0]) + new
        settings = genai.GeneratorParams(self._model)
        # The cache is allocated for max_length; min_length keeps an end token from being chosen.
        settings.set_search_options(
            max_length=reach, min_length=reach, batch_size=len(prompts), do_sample=False
        )
        generator = genai.Generator(self._model, settings)
        start, arrivals = time.perf_counter(), []
        generator.append_tokens(np.asarray(prompts, dtype=np.int32))
        for _ in range(new):
            generator.generate_next_token()
            arrivals.append(time.perf_counter() - start)
        rows = [generator.get_sequence(row) for row in range(len(prompts))]
        return Answer(arrivals, [[int(token) for token in row[-new:]] for row in rows])
