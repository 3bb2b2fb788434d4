"""Bundles for the tests on a GPU, and what must come out of them: `make gpu-bundles`.

The machine with the GPU needs no compiler: it gets this folder. Beside every bundle lies a file
`NAME.expected.npz` with prompts, and what an executor of the CPU makes of them in f32.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import smollm2
from hetc.bundle.launches import LAUNCHES_FILE
from hetc.driver import CompileOptions, compile_bundle, load
from hetc.runtime import Bundle

VOCABULARY, CONTEXT, WINDOW = 512, 512, 32
# Wide enough for tensor cores, and so spread that rounding to bf16 does not decide.
SIZES: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "head_dim": 32,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": CONTEXT,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "gemma2": {"sliding_window": WINDOW, "query_pre_attn_scalar": 32},
    "qwen3": {},
    "mixtral": {},
    "gpt_oss": {"sliding_window": WINDOW},
}
_DEVIATION = 0.05
# For benchmarks/gpu_prefill.py: a plan, whose weights are made up on the GPU.
LLAMA_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "dtype": "bfloat16",
}
# Sequences and tokens of each: odd ones, one tile and more, within and beyond the window.
SHAPES = ((1, 1), (1, 7), (2, 33), (3, 128), (1, 300))
TEXTS = (
    "What is the capital of France?",
    "Once upon a time",
    "def fibonacci(n):",
    "1, 1, 2, 3, 5, 8,",
    "She opened the door, looked at the empty room, and then she said that",
)
NEW_TOKENS = 32


def main(folder: Path) -> None:
    """Fill `folder`; a model that has no kernels for a GPU ends it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in _sources():
        options = CompileOptions(prefill="h200", decode="host", quantize="none")
        compile_bundle(source, folder / name, options, overwrite=True)
        print(folder / name)
        with load(folder / name) as bundle:
            manifest = bundle.manifest
        if LAUNCHES_FILE not in manifest.files:
            told = (f"{each.op}: {each.reason}" for each in manifest.fallbacks)
            sys.exit("\n  ".join((f"{name} has no kernels for a GPU", *told)))
        if manifest.kind == "plan":
            continue
        with load(folder / name, executor="onnx") as bundle:
            texts = TEXTS if name == "smollm2" else ()
            np.savez(folder / f"{name}.expected.npz", **_expected(bundle, texts))


def _sources() -> Iterator[tuple[str, Any]]:
    """Names, and models as `hetc.compile` takes them."""
    import torch

    from tests.driver.models import build, save, save_config

    yield "smollm2", smollm2()
    for family, changes in FAMILIES.items():
        model = build(family, **SIZES, **changes)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, _DEVIATION)
        with tempfile.TemporaryDirectory() as scratch:
            yield family, save(model.to(torch.bfloat16), Path(scratch) / family)
    with tempfile.TemporaryDirectory() as scratch:
        yield "llama-3.1-8b", save_config(Path(scratch) / "llama-3.1-8b", LLAMA_8B)


def _expected(bundle: Bundle, texts: tuple[str, ...]) -> dict[str, Any]:
    """Prompts and what comes out, as the arrays of the file."""
    found: dict[str, Any] = {}
    generator = np.random.default_rng(0)
    for number, shape in enumerate(SHAPES):
        tokens = generator.integers(3, bundle.manifest.model.vocab, shape)
        logits, state = bundle.prefill(tokens)
        found[f"{number}.tokens"], found[f"{number}.logits"] = tokens, logits
        # The states of the first and the last layer tell of all before them.
        names = bundle.contract.state_names
        for name in {*names[:2], *names[-2:]}:
            found[f"{number}.state.{name}"] = np.asarray(state.numpy(name), np.float32)
    for number, text in enumerate(texts):
        found[f"{number}.text"] = np.frombuffer(text.encode(), np.uint8)
        found[f"{number}.new"], found[f"{number}.lead"] = _greedy(bundle, text)
    return found


def _greedy(bundle: Bundle, text: str) -> tuple[Any, Any]:
    """New tokens, and how far each was ahead of the second best, as a part of the largest logit."""
    logits, state = bundle.prefill(bundle.tokenizer.encode(text))
    new, leads = [], []
    for _ in range(NEW_TOKENS):
        second, first = np.sort(logits[0, -1])[-2:]
        new.append(int(np.argmax(logits[0, -1])))
        leads.append((first - second) / np.abs(logits).max())
        logits, state = bundle.decode([new[-1:]], state)
    return np.asarray(new), np.asarray(leads)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
