"""Ways of the native engine side by side, round by round: SmolLM2 in bf16, medians.

    python -m benchmarks.native_ab chunks --rounds 5
    python -m benchmarks.native_ab lossless --rounds 5
    python -m benchmarks.native_ab joined --rounds 5

`chunks` prefills in calls of 128 tokens, as the executor does, and of 256 and 512. `lossless`
decodes with matrices in 12 bits, as they are stored, and in 16, and fails where a logit differs.
`joined` decodes four sequences behind 64 to 512 tokens together, and one after the other.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import machine, smollm2, versions
from hetc import runtime
from hetc.bundle import BundleWriter
from hetc.driver import CompileOptions
from hetc.driver.plan import plan
from hetc.driver.write import write_bundle
from hetc.runtime import Bundle
from hetc.runtime.native import executor

STEPS = 32
CHUNKS = (128, 256, 512)
LENGTHS = (64, 128, 256, 512)
_VOCABULARY = 40_000


def bundle(path: Path, *, lossless: bool) -> Bundle:
    """SmolLM2 in bf16, compiled to `path` and loaded."""
    planned = plan(smollm2(), CompileOptions(dtype="bf16", quantize="none"), lambda step: None)
    vars(planned)["native"] = dataclasses.replace(planned.native, lossless=lossless)
    with BundleWriter(path) as writer:
        write_bundle(planned, None, writer, (), lambda step: None)
    return runtime.load(path, executor="native")


def chunks(folder: Path, rounds: int) -> None:
    """Tokens/s of prompts of 512 and 2,048, by the tokens of a call."""
    random, rows = np.random.default_rng(0), executor._MOST_ROWS
    usual = rows["prefill"]
    with bundle(folder / "bundle", lossless=True) as loaded:
        for count in (512, 2048):
            found: dict[int, list[float]] = {size: [] for size in CHUNKS}
            for number in range(rounds + 1):
                for size in CHUNKS:
                    rows["prefill"] = size
                    prompt = random.integers(0, _VOCABULARY, (1, count))
                    start = time.perf_counter()
                    loaded.prefill(prompt)
                    if number:  # the first round warms up
                        found[size].append(count / (time.perf_counter() - start))
            speeds = {size: statistics.median(rates) for size, rates in found.items()}
            told = " · ".join(f"{size} a call {rate:.0f}" for size, rate in speeds.items())
            print(f"prompt {count}: tokens/s {told}")
    rows["prefill"] = usual


def lossless(folder: Path, rounds: int) -> None:
    """Milliseconds a token in 12 and in 16 bits, at contexts of 64 and 1,024."""
    random = np.random.default_rng(0)
    with (
        bundle(folder / "coded", lossless=True) as coded,
        bundle(folder / "plain", lossless=False) as plain,
    ):
        for context in (64, 1024):
            found: list[tuple[float, float]] = []
            for _ in range(rounds + 1):
                prompt = random.integers(0, _VOCABULARY, (1, context))
                (ours, few), (theirs, many) = (decoded(side, prompt) for side in (coded, plain))
                if not np.array_equal(ours, theirs):
                    raise SystemExit("a logit in 12 bits is another than in 16")
                found.append((few, many))
            few, many = (statistics.median(times) * 1e3 for times in zip(*found[1:], strict=True))
            ratio = statistics.median(many / few for few, many in found[1:])
            print(f"context {context}: 12 bits {few:.2f} ms, 16 bits {many:.2f} ms, x {ratio:.2f}")


def joined(folder: Path, rounds: int) -> None:
    """Tokens/s of sequences at different positions, in one call a step and in one each."""
    random = np.random.default_rng(0)
    together: list[float] = []
    apart: list[float] = []
    with bundle(folder / "bundle", lossless=True) as loaded:
        for _ in range(rounds + 1):
            prompts = [random.integers(0, _VOCABULARY, (1, length)) for length in LENGTHS]
            start = [loaded.prefill(prompt)[1] for prompt in prompts]
            one = sum(decoded(loaded, prompt)[1] for prompt in prompts)
            several, times = loaded.join(start), []
            for _ in range(STEPS):
                begin = time.perf_counter()
                loaded.decode_joined(random.integers(0, _VOCABULARY, (len(LENGTHS), 1)), several)
                times.append(time.perf_counter() - begin)
            together.append(len(LENGTHS) / statistics.median(times))
            apart.append(len(LENGTHS) / one)
    both = list(zip(together, apart, strict=True))[1:]
    ratio = statistics.median(many / few for many, few in both)
    many, few = (statistics.median(rates) for rates in zip(*both, strict=True))
    print(f"{len(LENGTHS)} sequences: tokens/s {many:.0f} together, {few:.0f} apart, x {ratio:.2f}")
    print("ratio of each round:", ", ".join(f"{many / few:.2f}" for many, few in both))


def decoded(side: Bundle, prompt: np.ndarray) -> tuple[np.ndarray, float]:
    """All logits of a prefill and STEPS greedy steps, and the median seconds of a step."""
    logits, state = side.prefill(prompt)
    found, times = [logits[0, -1]], []
    for _ in range(STEPS):
        token = int(found[-1].argmax())
        start = time.perf_counter()
        logits, state = side.decode([token], state)
        times.append(time.perf_counter() - start)
        found.append(logits[0, -1])
    return np.stack(found), statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("chunks", "joined", "lossless"))
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(machine(), versions("torch-mlir"), sep="\n")
    with tempfile.TemporaryDirectory() as folder:
        {"chunks": chunks, "joined": joined, "lossless": lossless}[given.what](
            Path(folder), given.rounds
        )


if __name__ == "__main__":
    main()
