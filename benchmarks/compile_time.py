"""Seconds and peak memory of whole compiles, each in a process of its own.

    python -m benchmarks.compile_time --runs 3

SmolLM2-135M from its GGUF file to a runnable bundle, and Llama-3.1 8B and 405B from `config.json`
alone to a plan. Seconds are from the start of Python to its end, imports included.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, smollm2, versions
from hetc.driver import CompileOptions, compile_bundle

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 128256,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
    "bos_token_id": 128000,
    "eos_token_id": 128001,
}
LLAMA_8B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
LLAMA_405B = {
    "hidden_size": 16384,
    "intermediate_size": 53248,
    "num_hidden_layers": 126,
    "num_attention_heads": 128,
}


@dataclass(frozen=True)
class Case:
    """A model (a configuration, or None for the SmolLM2 file), its targets and its limits. Without
    `prefill` the default stands, for which no kernels are compiled in these cases."""

    title: str
    config: dict[str, Any] | None
    prefill: str | None
    decode: str
    most_seconds: float
    most_gb: float


CASES = (
    Case("SmolLM2-135M, GGUF", None, None, "sn40l", 15, 1.5),
    Case("the same with kernels", None, "h200", "sn40l", 20, 1.5),
    Case("Llama-3.1-8B, config.json", LLAMA | LLAMA_8B, None, "sn40l", 15, 2),
    Case("the same with kernels", LLAMA | LLAMA_8B, "h200", "sn40l", 30, 2),
    Case("Llama-3.1-405B, config.json", LLAMA | LLAMA_405B, "h200:8", "sn40l:16", 60, 2),
)


def compile_once(number: int, folder: Path) -> None:
    """Compile one case in this process, and print what it took as JSON."""
    case = CASES[number]
    source = smollm2()
    if case.config is not None:
        source = folder / "model"
        source.mkdir()
        (source / "config.json").write_text(json.dumps(case.config), encoding="utf-8")
    options = CompileOptions(prefill=case.prefill, decode=case.decode)
    steps = compile_bundle(source, folder / "bundle", options).seconds
    # Linux counts kilobytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    print(json.dumps({"peak_gb": peak / 1e9, "steps": steps}))


def measure(number: int) -> dict[str, Any]:
    """What one compile took, in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.compile_time"]
        command += ["--case", str(number), "--folder", folder]
        start = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, **json.loads(done.stdout.splitlines()[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case is not None:
        compile_once(options.case, options.folder)
        return
    print(f"{machine()}\n{versions('torch', 'transformers', 'gguf', 'numpy')}\n")
    print("| model | targets | seconds | (runs) | at most | peak GB | at most |")
    print("| --- | --- | ---: | --- | ---: | ---: | ---: |")
    runs = [[measure(number) for number in range(len(CASES))] for _ in range(options.runs)]
    for case, taken in zip(CASES, zip(*runs, strict=True), strict=True):
        seconds = [run["seconds"] for run in taken]
        each = ", ".join(f"{value:.1f}" for value in seconds)
        peak = statistics.median(run["peak_gb"] for run in taken)
        print(
            f"| {case.title} | {case.prefill or 'default'} + {case.decode}"
            f" | {statistics.median(seconds):.1f}"
            f" | {each} | {case.most_seconds:g} | {peak:.2f} | {case.most_gb:g} |"
        )
    print("\n| seconds of the last run | " + " | ".join(case.title for case in CASES) + " |")
    print("| --- |" + " ---: |" * len(CASES))
    steps = [run["steps"] for run in runs[-1]]
    for name in dict.fromkeys(name for taken in steps for name in taken):
        row = (f"{taken[name]:.2f}" if name in taken else "" for taken in steps)
        print(f"| {name} | " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
