"""SmolLM2 in fp32: hetc's onnx executor against transformers' own `generate`, on the same cores.

    python -m benchmarks.eager_ratio --runs 5

Both sides generate greedily from the same token ids, one after the other in every run. Prefill is
the time of one new token; decode is what each further token adds. transformers runs eagerly with
its default attention (sdpa) and cache.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import machine, smollm2, versions
from hetc.driver import CompileOptions, compile_bundle, load
from hetc.frontends.original import model_of_gguf
from hetc.runtime import Bundle
from hetc.runtime.cores import physical_cores

Generate = Callable[[list[int], int], list[int]]
NEW_TOKENS = 64


def by_hetc(bundle: Bundle) -> Generate:
    def generate(prompt: list[int], new: int) -> list[int]:
        return list(bundle.generate(prompt, max_new_tokens=new, ignore_eos=True).token_ids)

    return generate


def by_transformers(model: Any) -> Generate:
    model.generation_config.eos_token_id = None

    def generate(prompt: list[int], new: int) -> list[int]:
        with torch.inference_mode():
            found = model.generate(torch.tensor([prompt]), max_new_tokens=new, do_sample=False)
        ids: list[int] = found[0, len(prompt) :].tolist()
        return ids

    return generate


def seconds(generate: Generate, prompt: list[int], new: int) -> float:
    start = time.perf_counter()
    generate(prompt, new)
    return time.perf_counter() - start


def measure(sides: dict[str, Generate], length: int, runs: int) -> dict[str, tuple[float, float]]:
    """Median tokens per second of prefill and decode of each side, for prompts of `length`."""
    prompt = np.random.default_rng(length).integers(20, 40000, length).tolist()
    for generate in sides.values():
        generate(prompt, 4)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(runs):
        for name, generate in sides.items():
            first = seconds(generate, prompt, 1)
            rest = seconds(generate, prompt, 1 + NEW_TOKENS) - first
            taken[name].append((length / first, NEW_TOKENS / rest))
    return {
        name: (
            statistics.median(run[0] for run in found),
            statistics.median(run[1] for run in found),
        )
        for name, found in taken.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--prompts", type=int, nargs="+", default=[16, 128, 512])
    options = parser.parse_args()
    threads = physical_cores()
    torch.set_num_threads(threads)
    print(f"{machine()}\n{versions('torch', 'transformers', 'onnxruntime')}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle"
        compile_bundle(smollm2(), path, CompileOptions(dtype="fp32", quantize="none"))
        with load(path) as bundle:
            model = model_of_gguf(smollm2()).eval()
            attention = model.config._attn_implementation
            print(f"{threads} threads each, {options.runs} runs, {attention}, {bundle.executors}\n")
            sides = {"hetc": by_hetc(bundle), "transformers": by_transformers(model)}
            report(sides, options.prompts, options.runs)


def report(sides: dict[str, Generate], lengths: list[int], runs: int) -> None:
    print("| prompt | phase | hetc tokens/s | transformers tokens/s | ratio |")
    print("| ---: | --- | ---: | ---: | ---: |")
    for length in lengths:
        found = measure(sides, length, runs)
        for index, phase in enumerate(("prefill", "decode")):
            ours, theirs = found["hetc"][index], found["transformers"][index]
            print(f"| {length} | {phase} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f} |")


if __name__ == "__main__":
    main()
