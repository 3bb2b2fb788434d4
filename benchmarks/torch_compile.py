"""SmolLM2 through transformers' `generate`: eagerly, and compiled by hetc and by inductor.

    python -m benchmarks.torch_compile --runs 3 --sides eager hetc inductor

Each side and cache has a process of its own; they take turns in every run. Warm-up is the time of
the first two calls of `generate`, as far as it is more than that of later ones. Decode is what each
further token adds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from typing import Any

import numpy as np
import torch

from benchmarks.machine import machine, smollm2, versions
from hetc.frontends.original import model_of_gguf
from hetc.runtime.native.step import NativeStep

SIDES = ("eager", "hetc", "inductor")
PROMPT, NEW = 64, 64


def one(side: str, cache: str, dtype: str) -> dict[str, Any]:
    """Seconds and tokens of one side, in this process."""
    warnings.simplefilter("ignore")
    model = model_of_gguf(smollm2(), dtype).eval()
    model.config.use_cache = model.generation_config.use_cache = True
    model.generation_config.eos_token_id = None
    if side != "eager":
        model.forward = torch.compile(model.forward, backend=side)
    ids = torch.tensor([np.random.default_rng(PROMPT).integers(20, 40000, PROMPT).tolist()])

    def generate(new: int) -> tuple[float, list[int]]:
        start = time.perf_counter()
        found = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            do_sample=False,
            disable_compile=True,
            **({"cache_implementation": "static"} if cache == "static" else {}),
        )
        return time.perf_counter() - start, found[0, PROMPT:].tolist()

    native = _timed_engine()
    first = [generate(NEW)[0] for _ in range(2)]
    native.clear()
    whole = [generate(NEW) for _ in range(3)]
    engine = sum(native) / (3 * (NEW - 1)) * 1e3
    prefill = statistics.median(generate(1)[0] for _ in range(3))
    seconds = statistics.median(item[0] for item in whole)
    return {
        "warm_up": sum(first) - 2 * seconds,
        "prefill": prefill,
        "decode": (NEW - 1) / (seconds - prefill),
        "engine": engine,
        "tokens": whole[-1][1],
    }


def _timed_engine() -> list[float]:
    """The seconds that each call of the native engine takes from now on."""
    seconds: list[float] = []
    run = NativeStep.run

    def timed(self: NativeStep, *given: Any) -> Any:
        start = time.perf_counter()
        logits = run(self, *given)
        seconds.append(time.perf_counter() - start)
        return logits

    NativeStep.run = timed  # type: ignore[method-assign, assignment]
    return seconds


def in_process(side: str, cache: str, dtype: str) -> dict[str, Any]:
    """As `one`, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.torch_compile", "--one", side, cache, dtype]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--caches", nargs="+", default=["dynamic", "static"])
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16"])
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(*args.one)))
        return
    print(machine())
    print(versions("torch", "transformers"))
    print(
        f"\nSmolLM2-135M, prompt of {PROMPT} tokens, {NEW} new ones, medians of {args.runs} runs\n"
    )
    print(
        "| dtype | cache | side | warm-up, s | prefill, s | decode, tokens/s | engine, ms | text |"
    )
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | --- |")
    for dtype in args.dtypes:
        for cache in args.caches:
            found: dict[str, list[dict[str, Any]]] = {side: [] for side in args.sides}
            for _ in range(args.runs):
                for side in args.sides:
                    found[side].append(in_process(side, cache, dtype))
            expected = found[args.sides[0]][0]["tokens"]
            for side, taken in found.items():
                middle = {
                    key: statistics.median(item[key] for item in taken)
                    for key in ("warm_up", "prefill", "decode", "engine")
                }
                same = sum(a == b for a, b in zip(taken[-1]["tokens"], expected, strict=True))
                print(
                    f"| {dtype} | {cache} | {side} | {middle['warm_up']:.1f}"
                    f" | {middle['prefill']:.2f} | {middle['decode']:.1f}"
                    f" | {middle['engine']:.1f} | {same} of {NEW} |"
                )


if __name__ == "__main__":
    main()
