"""OpenVINO GenAI's `LLMPipeline`, with its default attention (paged) and KV cache (8-bit)."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai as genai

from benchmarks.peers.engine import Answer, Room

_MICROSECONDS = 1e-6


class OpenVINOGenAI:
    """A directory of OpenVINO IR with a tokenizer; times are the pipeline's own raw metrics."""

    def __init__(self) -> None:
        self._pipeline: Any = None

    def load(self, model: Path, threads: int, room: Room) -> None:
        schedule = genai.SchedulerConfig()
        schedule.enable_prefix_caching = False
        schedule.max_num_seqs = room.batch
        schedule.max_num_batched_tokens = room.batch * room.context
        self._pipeline = genai.LLMPipeline(
            str(model), "CPU", INFERENCE_NUM_THREADS=threads, scheduler_config=schedule
        )

    def generate(self, prompts: list[list[int]], new: int) -> Answer:
        settings = genai.GenerationConfig()
        settings.max_new_tokens = new
        settings.ignore_eos = True
        settings.do_sample = False
        ids = np.asarray(prompts, dtype=np.int64)
        inputs = genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        found = self._pipeline.generate(inputs, settings)
        raw = found.perf_metrics.raw_metrics
        first = raw.m_times_to_first_token[0]
        # One entry a token, each its step's time shared among the sequences of the batch.
        shared = np.asarray(raw.m_durations, dtype=float).reshape(new - 1, len(prompts))
        steps = itertools.accumulate(shared.sum(axis=1), initial=first)
        return Answer(
            [float(step) * _MICROSECONDS for step in steps], list(map(list, found.tokens))
        )
