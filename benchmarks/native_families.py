"""Random models of about 1 B parameters of several families in the native engine.

    python -m benchmarks.native_families llama gemma2 qwen3_moe gpt_oss --rounds 5 --folder kept

Each is made, saved in bf16 and compiled as a user would; with `--folder`, bundles stay there and
are found again, so that a run may only compile (`--rounds 0`) or only measure. Every round measures
the read bandwidth, then decode, then the bandwidth again: neighbours on the machine slow both
alike. The bytes of a token are nominal: the weights that it uses (of a mixture, the experts that
were chosen) and the state. Medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.machine import machine, versions
from benchmarks.read_bandwidth import ReadBandwidth
from hetc import runtime
from hetc.driver import CompileOptions, compile_bundle
from hetc.ir.text import parse
from hetc.passes.cost import phase_costs
from hetc.runtime import Bundle
from hetc.runtime.cores import physical_cores
from hetc.runtime.native import NativeOptions, native_executors

STEPS = 16
_SHARED: Mapping[str, Any] = {"max_position_embeddings": 8192, "dtype": "bfloat16"}
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "llama": {
        "vocab_size": 128_256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": True,
    },
    "gemma2": {
        "vocab_size": 128_000,
        "hidden_size": 1536,
        "intermediate_size": 6144,
        "num_hidden_layers": 20,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "sliding_window": 4096,
    },
    "qwen3_moe": {
        "vocab_size": 64_000,
        "hidden_size": 1024,
        "num_hidden_layers": 12,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "num_experts": 32,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 768,
    },
    "gpt_oss": {
        "vocab_size": 64_000,
        "hidden_size": 1024,
        "intermediate_size": 1024,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "num_local_experts": 16,
        "num_experts_per_tok": 4,
        "sliding_window": 128,
        "rope_parameters": {"rope_type": "default", "rope_theta": 150_000.0},
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=", ".join(FAMILIES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--threads", type=int, default=physical_cores())
    parser.add_argument("--layers", type=int, help="other than the family has here")
    parser.add_argument("--folder", type=Path, help="where bundles are kept")
    given = parser.parse_args()
    unknown = sorted(set(given.families) - FAMILIES.keys())
    if unknown:
        parser.error(f"no such families: {', '.join(unknown)}")
    print(machine(), versions("torch-mlir", "transformers"), sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for family in given.families or FAMILIES:
            bundle = _bundle(family, given.layers, given.folder or Path(temporary))
            if given.rounds:
                _measure(family, bundle, given.rounds, given.prompt, given.threads)


def _bundle(family: str, layers: int | None, folder: Path) -> Path:
    """The bundle of a family, compiled where it is not yet there."""
    path = folder / f"{family}{layers or ''}"
    if path.exists():
        return path
    with tempfile.TemporaryDirectory(dir=folder.absolute()) as model:
        _save(family, layers, Path(model))
        start = time.perf_counter()
        compiled = compile_bundle(Path(model), path, CompileOptions())
        print(f"{family} compiled in {time.perf_counter() - start:.0f} s", flush=True)
    assert "native" in compiled.manifest.executors
    return path


def _save(family: str, layers: int | None, folder: Path) -> None:
    fields = {**_SHARED, **FAMILIES[family]}
    config = AutoConfig.for_model(family, **fields)
    if layers is not None:
        config = AutoConfig.for_model(family, **{**fields, "num_hidden_layers": layers})
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)


def _measure(family: str, path: Path, rounds: int, prompt: int, threads: int) -> None:
    memory = ReadBandwidth(threads)
    offered = {"native": native_executors(NativeOptions(threads))}
    with runtime.load(path, executors=offered, executor="native") as bundle:
        needed, vocabulary = _bytes_of_a_token(bundle, prompt), bundle.manifest.model.vocab
        tokens = np.random.default_rng(0).integers(0, vocabulary, (1, prompt))
        prompts, steps, rates, used = [], [], [], []
        for _ in range(rounds):
            before = memory.measure()
            start = time.perf_counter()
            logits, state = bundle.prefill(tokens)
            prompts.append(time.perf_counter() - start)
            times = []
            for _ in range(STEPS):
                token = int(np.argmax(logits[0, -1]))
                start = time.perf_counter()
                logits, state = bundle.decode([token], state)
                times.append(time.perf_counter() - start)
            steps.append(statistics.median(times))
            rates.append(max(before, memory.measure()))
            used.append(needed / steps[-1] / 1e9 / rates[-1])
    memory.close()
    second, first, rate = (statistics.median(part) for part in (steps, prompts, rates))
    print(f"{family:10} {threads} threads · prompt {prompt} · {rounds} rounds")
    print(f"  prefill {prompt / first:8.0f} tokens/s   decode {1 / second:7.1f} tokens/s")
    print(f"  {needed / 1e6:.0f} MB a token · read bandwidth {rate:.1f} GB/s", end=" · ")
    print(f"MBU {statistics.median(used):.2f} (best round {max(used):.2f})", flush=True)


def _bytes_of_a_token(bundle: Bundle, past: int) -> float:
    """What decode must read for one token: of the weights, and the state."""
    text = bundle.files.read_bytes(bundle.manifest.halves["decode"].graph).decode()
    sizes = {"B": 1, "T": 1, "P": past}
    costs = phase_costs(parse(text), "decode", frozenset(bundle.contract.state_names))
    done = [cost.work.at(sizes) for cost in costs]
    return float(sum(amounts.weight_bytes + amounts.state_bytes for amounts in done))


if __name__ == "__main__":
    main()
