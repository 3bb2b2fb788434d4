"""Decode and prefill of the native engine against the machine's read bandwidth and other executors.

    python -m benchmarks.native_decode --rounds 9 --context 64 --threads 2

Every round measures the read bandwidth, then each side in turn: neighbours on the machine slow all
of them alike. MBU is the bytes that a token must read (the weights of products, and the KV state)
over what memory gave in the same round. Medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.machine import machine, smollm2, versions
from benchmarks.read_bandwidth import ReadBandwidth
from hetc import runtime
from hetc.backends.native import NativePlan
from hetc.driver import CompileOptions, compile_bundle
from hetc.driver.options import QUANTIZE
from hetc.ir.text import parse
from hetc.runtime import Bundle, OnnxOptions, onnx_executors
from hetc.runtime.cores import physical_cores
from hetc.runtime.native import NativeOptions, native_executors

STEPS = 32


@dataclass
class Side:
    """One executor, and what it did in every round."""

    bundle: Bundle
    token_seconds: list[float] = field(default_factory=list)
    prompt_seconds: list[float] = field(default_factory=list)

    def round(self, prompt: Sequence[int]) -> None:
        """Prefill `prompt`, then decode STEPS tokens."""
        start = time.perf_counter()
        logits, state = self.bundle.prefill([prompt])
        self.prompt_seconds.append(time.perf_counter() - start)
        times = []
        for _ in range(STEPS):
            token = int(np.argmax(logits[0, -1]))
            start = time.perf_counter()
            logits, state = self.bundle.decode([token], state)
            times.append(time.perf_counter() - start)
        self.token_seconds.append(statistics.median(times))


def bytes_of_a_token(bundle: Path, context: int) -> float:
    """What decode must read for one token: matrices of products once, and the state."""
    graph = parse((bundle / "decode" / "graph.hetc").read_text())
    plan = NativePlan(graph, context)
    assert not plan.reasons, plan.reasons
    states = sum(
        int(value.shape[1]) * int(value.shape[3]) * value.dtype.bits // 8 * context
        for value in graph.inputs[2:]
        if isinstance(value.shape[1], int) and isinstance(value.shape[3], int)
    )
    return float(plan.matrix_bytes + states)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, help="SmolLM2 is compiled where none is given")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--threads", type=int, help="one a core, and fewer where that is faster")
    parser.add_argument("--quantize", choices=QUANTIZE, default="none")
    given = parser.parse_args()
    print(machine(), versions("torch-mlir", "onnxruntime"), sep="\n")
    with tempfile.TemporaryDirectory() as folder:
        bundle = given.bundle
        if bundle is None:
            options = CompileOptions(dtype=given.dtype, quantize=given.quantize)
            bundle = compile_bundle(smollm2(), Path(folder) / "smollm2", options).path
        compare(bundle, given.rounds, given.context, given.threads)


def compare(bundle: Path, rounds: int, context: int, threads: int | None) -> None:
    """Print the medians of all sides."""
    offered = {
        "native": native_executors(NativeOptions(threads)),
        "onnx": onnx_executors(OnnxOptions(threads)),
    }
    sides = {name: Side(runtime.load(bundle, executors=offered, executor=name)) for name in offered}
    memory = ReadBandwidth(threads or physical_cores())
    vocabulary = sides["native"].bundle.manifest.model.vocab
    prompt = np.random.default_rng(0).integers(0, vocabulary, context).tolist()
    needed = bytes_of_a_token(bundle, context)
    bandwidth: list[float] = []
    utilization: list[float] = []
    for _ in range(rounds):
        before = memory.measure()
        for side in sides.values():
            side.round(prompt)
            if side is sides["native"]:
                bandwidth.append(max(before, memory.measure()))
                utilization.append(needed / side.token_seconds[-1] / 1e9 / bandwidth[-1])
    megabytes, used = f"{needed / 1e6:.0f} MB a token", threads or "as many as pay"
    print(f"threads {used} · {rounds} rounds · context {context} · {megabytes}")
    print(f"read bandwidth {statistics.median(bandwidth):.1f} GB/s")
    for name, side in sides.items():
        decode, prefill = (
            statistics.median(times) for times in (side.token_seconds, side.prompt_seconds)
        )
        speeds = f"{1 / decode:7.1f} tokens/s · prefill {context / prefill:7.0f} tokens/s"
        print(f"{name:8} decode {speeds}")
    ours, theirs = (sides[name].token_seconds for name in ("native", "onnx"))
    ratios = [other / own for own, other in zip(ours, theirs, strict=True)]
    print(f"native / onnx decode {statistics.median(ratios):.2f}")
    print(f"native MBU {statistics.median(utilization):.2f} (best round {max(utilization):.2f})")
    memory.close()
    for side in sides.values():
        side.bundle.close()


if __name__ == "__main__":
    main()
