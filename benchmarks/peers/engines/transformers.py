"""transformers with the cache and attention that it runs fastest with here, in a loop of our own.

`generate` adds work in Python to every token; this loop is what remains without it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.peers.engine import Answer, Room


class Transformers:
    """A Hugging Face directory in `dtype`.

    With `compiled`, decode runs through torch.compile on a static cache, as `generate` does it;
    prefill stays eager there too.
    """

    def __init__(self, dtype: str = "bfloat16", *, compiled: bool = False) -> None:
        self._dtype = getattr(torch, dtype)
        self._compiled = compiled
        self._model: Any = None
        self._step: Any = None

    def load(self, model: Path, threads: int, room: Room) -> None:
        torch.set_num_threads(threads)
        self._model = transformers.AutoModelForCausalLM.from_pretrained(
            model, dtype=self._dtype, local_files_only=True, attn_implementation="sdpa"
        ).eval()
        self._step = self._model
        if self._compiled:
            self._step = torch.compile(self._model, fullgraph=True)

    @torch.inference_mode()
    def generate(self, prompts: list[list[int]], new: int) -> Answer:
        tokens = torch.tensor(prompts)
        length = tokens.shape[1]
        cache = self._cache(length + new)
        start = time.perf_counter()
        last = self._best(self._model, tokens, cache, 0)
        arrivals, found = [time.perf_counter() - start], [last]
        for step in range(1, new):
            last = self._best(self._step, last, cache, length + step - 1)
            found.append(last)
            arrivals.append(time.perf_counter() - start)
        return Answer(arrivals, torch.cat(found, dim=1).tolist())

    def _cache(self, reach: int) -> Any:
        if not self._compiled:
            return transformers.DynamicCache(config=self._model.config)
        return transformers.StaticCache(config=self._model.config, max_cache_len=reach)

    def _best(self, run: Any, tokens: torch.Tensor, cache: Any, past: int) -> torch.Tensor:
        positions = torch.arange(past, past + tokens.shape[1]).unsqueeze(0)
        result = run(
            input_ids=tokens,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        best: torch.Tensor = result.logits[:, -1:].argmax(dim=-1)
        return best
