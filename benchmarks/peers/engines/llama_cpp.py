"""llama.cpp through `llama_decode`, as its own benchmark drives it: no copy of logits in Python."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np

from benchmarks.peers.engine import Answer, Room

_UBATCH = 512  # llama.cpp's own default
_BATCH = 2048


class LlamaCpp:
    """A GGUF file; every sequence of a batch has a KV cache of its own (`kv_unified` off)."""

    def __init__(self) -> None:
        self._model: Any = None
        self._context: Any = None
        self._room = (0, 0)
        self._threads = 1
        self._vocab = 0

    def load(self, model: Path, threads: int, room: Room) -> None:
        llama.llama_backend_init()
        settings = llama.llama_model_default_params()
        self._model = llama.llama_model_load_from_file(str(model).encode(), settings)
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot load {model.name}")
        self._threads = threads
        self._vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model))

    def generate(self, prompts: list[list[int]], new: int) -> Answer:
        batch, length = len(prompts), len(prompts[0])
        self._make_context(batch, length + new)
        llama.llama_memory_clear(llama.llama_get_memory(self._context), True)
        slots = llama.llama_batch_init(_BATCH, 0, 1)
        try:
            start = time.perf_counter()
            last = [self._prefill(slots, ids, row) for row, ids in enumerate(prompts)]
            arrivals, tokens = [time.perf_counter() - start], [[token] for token in last]
            for step in range(1, new):
                slots.n_tokens = batch
                for row, token in enumerate(last):
                    _put(slots, row, token, length + step - 1, row, wanted=True)
                self._decode(slots)
                last = [self._best(row) for row in range(batch)]
                arrivals.append(time.perf_counter() - start)
                for found, token in zip(tokens, last, strict=True):
                    found.append(token)
        finally:
            llama.llama_batch_free(slots)
        return Answer(arrivals, tokens)

    def logits(self, ids: list[int]) -> np.ndarray:
        """Of every position, f32[S, V]."""
        self._make_context(1, len(ids))
        llama.llama_memory_clear(llama.llama_get_memory(self._context), True)
        found = np.empty((len(ids), self._vocab), np.float32)
        slots = llama.llama_batch_init(_UBATCH, 0, 1)
        try:
            for begin in range(0, len(ids), _UBATCH):
                part = ids[begin : begin + _UBATCH]
                slots.n_tokens = len(part)
                for index, token in enumerate(part):
                    _put(slots, index, token, begin + index, 0, wanted=True)
                self._decode(slots)
                for index in range(len(part)):
                    row = llama.llama_get_logits_ith(self._context, index)
                    found[begin + index] = np.ctypeslib.as_array(row, (self._vocab,))
        finally:
            llama.llama_batch_free(slots)
        return found

    def _prefill(self, slots: Any, ids: list[int], row: int) -> int:
        for begin in range(0, len(ids), _BATCH):
            part = ids[begin : begin + _BATCH]
            slots.n_tokens = len(part)
            for index, token in enumerate(part):
                at = begin + index
                _put(slots, index, token, at, row, wanted=at == len(ids) - 1)
            self._decode(slots)
        return self._best(slots.n_tokens - 1)

    def _decode(self, slots: Any) -> None:
        code = llama.llama_decode(self._context, slots)
        if code:
            raise RuntimeError(f"llama_decode returned {code}")

    def _best(self, index: int) -> int:
        logits = llama.llama_get_logits_ith(self._context, index)
        return int(np.ctypeslib.as_array(logits, (self._vocab,)).argmax())

    def _make_context(self, batch: int, reach: int) -> None:
        """A context of just the size that is needed, kept while it fits."""
        # The size that llama.cpp gives a sequence is a multiple of this.
        room = (batch, -(-reach // 256) * 256)
        if room == self._room:
            return
        if self._context:
            llama.llama_free(self._context)
        settings = llama.llama_context_default_params()
        settings.n_ctx, settings.n_seq_max = room[1] * batch, batch
        settings.n_batch, settings.n_ubatch = _BATCH, _UBATCH
        settings.n_threads = settings.n_threads_batch = self._threads
        settings.kv_unified = False
        self._context = llama.llama_init_from_model(self._model, settings)
        if not self._context:
            raise RuntimeError(f"llama.cpp makes no context for {batch} x {room[1]} tokens")
        self._room = room


def _put(slots: Any, index: int, token: int, position: int, row: int, *, wanted: bool) -> None:
    slots.token[index] = token
    slots.pos[index] = position
    slots.n_seq_id[index] = 1
    slots.seq_id[index][0] = row
    slots.logits[index] = wanted
