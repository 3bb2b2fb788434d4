"""Microseconds that importing takes for each op of an exported program.

    python -m benchmarks.import_time --runs 5

The models are built small but deep, and exported outside of the measured time. Counted are the
calls of the program; the time is the processor's, of `import_exported` or `import_whole` alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.export import Dim, ExportedProgram
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.machine import machine, versions
from hetc.frontends.torch_export import import_exported, import_whole

MOST_US = 150
_SMALL = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
_LATENT = {
    "num_key_value_heads": 4,
    "head_dim": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 32,
}


class Forward(torch.nn.Module):
    """A causal language model as `forward(input_ids) -> logits`."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=input_ids, use_cache=False).logits
        return logits


def causal(model_type: str, layers: int, **more: Any) -> ExportedProgram:
    """A causal language model with random weights, for any batch and length."""
    settings = {**_SMALL, **more, "num_hidden_layers": layers}
    config = AutoConfig.for_model(model_type, **settings)
    model = AutoModelForCausalLM.from_config(config)
    if "experts" in str(model).lower():
        model.set_experts_implementation("batched_mm")
    axes = {0: Dim("batch", min=1, max=64), 1: Dim("seq", min=1, max=512)}
    tokens = torch.ones(2, 12, dtype=torch.long)
    return torch.export.export(Forward(model).eval(), (tokens,), dynamic_shapes=(axes,))


class Residual(torch.nn.Module):
    """Two convolutions with batch norms around a skip, as in a ResNet (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norms = torch.nn.ModuleList(torch.nn.BatchNorm2d(channels) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(self.norms[0](self.first(x)))
        return torch.relu(x + self.norms[1](self.second(inner)))


def convolutional(blocks: int) -> ExportedProgram:
    """A residual network for any batch."""
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 7, stride=2, padding=3),
        torch.nn.MaxPool2d(3, 2, 1),
        *(Residual(16) for _ in range(blocks)),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 10),
    )
    image = torch.ones(2, 3, 64, 64)
    axes = {0: Dim("batch", min=1, max=64)}
    return torch.export.export(model.eval(), (image,), dynamic_shapes=({0: axes[0]},))


@dataclass(frozen=True)
class Case:
    """A program and how it is imported."""

    title: str
    program: Callable[[], ExportedProgram]
    importer: Callable[[ExportedProgram], Any] = import_exported
    decomposed: bool = False


CASES = (
    Case("llama, 24 layers", lambda: causal("llama", 24)),
    Case("the same, fully decomposed", lambda: causal("llama", 24), decomposed=True),
    Case("the same, as a whole", lambda: causal("llama", 24), import_whole),
    Case("gemma2, 24 layers", lambda: causal("gemma2", 24, head_dim=16)),
    Case("qwen3_moe, 12 layers", lambda: causal("qwen3_moe", 12, num_experts=8, head_dim=16)),
    Case("deepseek_v3, 12 layers", lambda: causal("deepseek_v3", 12, **_LATENT)),
    Case("gpt2, 24 layers", lambda: causal("gpt2", 24)),
    Case("residual network, 32 blocks", lambda: convolutional(32), import_whole),
    Case("the same, fully decomposed", lambda: convolutional(32), import_whole, decomposed=True),
)


def measure(case: Case, runs: int) -> tuple[int, float]:
    """Calls in the program, and the median of the microseconds that each takes."""
    program = case.program()
    if case.decomposed:
        program = program.run_decompositions()
    calls = sum(node.op == "call_function" for node in program.graph.nodes)
    seconds = []
    for _ in range(runs):
        start = time.process_time()
        case.importer(program)
        seconds.append(time.process_time() - start)
    return calls, statistics.median(seconds) * 1e6 / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="", help="cases whose title has this text")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    print(f"{machine()}\n{versions('torch', 'transformers')}\n")
    print(f"| program | calls | us a call (median of {arguments.runs}) | at most {MOST_US} |")
    print("|---|---:|---:|---|")
    for case in CASES:
        if arguments.only in case.title:
            calls, us = measure(case, arguments.runs)
            print(f"| {case.title} | {calls:,} | {us:.0f} | {'yes' if us <= MOST_US else 'no'} |")


if __name__ == "__main__":
    main()
