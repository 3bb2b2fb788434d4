"""One engine in a process of its own: a JSON object a line on stdin, an answer a line on stdout.

    python -m benchmarks.peers.worker MODULE:CLASS '{"option": "of the engine"}'

| `do` | with | answer |
| --- | --- | --- |
| `load` | `model`, `threads`, `batch`, `context` | `seconds` |
| `first` | `tokens`, `seed` | `seconds` to the first token of a prompt, context made anew |
| `prefill` | `tokens`, `batch`, `seed` | `seconds` to the first token |
| `decode` | `context`, `new`, `batch`, `seed` | `seconds` of `new` steps after the context |
| `answer` | `prompt`, `new` | `tokens` |
| `logits` | `tokens`, `to` | none: f32[S, V] of all positions is in the `.npy` file `to` |
| `memory` | | `resident_bytes` |
| `quit` | | none: the process ends |

An error is an answer too, `{"error": reason}`, and the worker goes on. What the engine prints goes
to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.peers.engine import Engine, Room, Scoring, prompts

# Steps of a decode that are not timed: the first ones allocate, and compile where something is.
UNTIMED_STEPS = 3
# Tokens of the prefill that comes before a timed one, at most.
WARM_TOKENS = 512
_OTHER_SEED = 1 << 20


class Worker:
    """Answers one request after the other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def load(self, model: str, threads: int, batch: int, context: int) -> dict[str, Any]:
        start = time.perf_counter()
        self._engine.load(Path(model), threads, Room(batch, context))
        return {"seconds": time.perf_counter() - start}

    def first(self, tokens: int, seed: int) -> dict[str, Any]:
        ids = prompts(tokens, 1, seed)
        start = time.perf_counter()
        self._engine.generate(ids, 1)
        return {"seconds": time.perf_counter() - start}

    def prefill(self, tokens: int, batch: int, seed: int) -> dict[str, Any]:
        warm = prompts(min(tokens, WARM_TOKENS), batch, seed + _OTHER_SEED)
        self._engine.generate(warm, 1)
        answer = self._engine.generate(prompts(tokens, batch, seed), 1)
        return {"seconds": answer.arrivals[0]}

    def decode(self, context: int, new: int, batch: int, seed: int) -> dict[str, Any]:
        ids = prompts(context, batch, seed)
        arrivals = self._engine.generate(ids, 1 + UNTIMED_STEPS + new).arrivals
        return {"seconds": arrivals[-1] - arrivals[UNTIMED_STEPS]}

    def answer(self, prompt: list[int], new: int) -> dict[str, Any]:
        return {"tokens": self._engine.generate([prompt], new).tokens[0]}

    def logits(self, tokens: list[int], to: str) -> dict[str, Any]:
        np.save(to, cast(Scoring, self._engine).logits(tokens))
        return {}

    def memory(self) -> dict[str, Any]:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return {"resident_bytes": pages * os.sysconf("SC_PAGE_SIZE")}


def make_engine(name: str, options: dict[str, Any]) -> Engine:
    module, _, cls = name.partition(":")
    engine: Engine = getattr(importlib.import_module(module), cls)(**options)
    return engine


def serve(name: str, options: dict[str, Any]) -> None:
    # Libraries print to stdout, from C too: the protocol keeps the descriptor, they get stderr.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    worker: Worker | None = None
    for line in sys.stdin:
        request = json.loads(line)
        verb = request.pop("do")
        if verb == "quit":
            break
        try:
            # Made at the first request, so that a peer that is missing is an answer.
            worker = worker or Worker(make_engine(name, options))
            reply = getattr(worker, verb)(**request)
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is its row's reason
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies)
    # Some engines crash while they are torn down, after everything has been said.
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1], json.loads(sys.argv[2]))
