"""Prefill and decode of a compiled bundle give the logits of transformers, family by family."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import hetc
from hetc.bundle.contract import StateSpec
from hetc.driver import load
from hetc.runtime import Bundle
from tests.driver.conftest import Subjects
from tests.driver.models import (
    CONTEXT,
    FAMILIES,
    VOCABULARY,
    WINDOW,
    Forward,
    build,
    eager,
    export,
    tokens,
)
from tests.driver.stepping import largest_error

TOLERANCE = 1e-4
# Prompt, and tokens at a time after it: past the window, across its edge, and from one token on.
SPLITS = ((12, 1), (12, 3), (5, 1), (WINDOW, 3), (1, 4))

CACHE, GROUPED, ONE = "kv[B,4,P,8]", "kv[B,2,P,8]", "kv[B,1,P,8]"
RING, CONV = "window[B,2,W7,8]", "conv[B,32,2]"
LATENT = "latent[B,1,P,16]latent[B,1,P,8]"
# What one layer keeps: keys and values by key head, rings where a window forgets, MLA's latent.
STATES = {
    "llama": (GROUPED, GROUPED),
    "mistral": (RING, RING),
    "qwen2": (GROUPED, GROUPED),
    "qwen3": (GROUPED, GROUPED),
    "gemma2": (RING, GROUPED),
    "gemma3_text": (RING, RING, GROUPED),
    "phi3": (RING, RING),
    "gpt2": (CACHE, CACHE),
    "gpt_neox": (CACHE, CACHE),
    "opt": (CACHE, CACHE),
    "falcon": (ONE, ONE),
    "bloom": (CACHE, CACHE),
    "mixtral": (GROUPED, GROUPED),
    "qwen3_moe": (GROUPED, GROUPED),
    "gpt_oss": (RING, GROUPED),
    "lfm2": (CONV, GROUPED, CONV, GROUPED),
    "deepseek_v3": (LATENT, LATENT),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_prefill_and_decode_equal_the_eager_model(subjects: Subjects, family: str) -> None:
    model, bundle = subjects(family).model, subjects(family).bundle
    assert bundle.executors == {"prefill": "native", "decode": "native"}
    assert bundle.fallbacks == ()
    assert bundle.manifest.fallbacks == ()
    for rows in (1, 3):
        assert_close(bundle, model, rows)


@pytest.mark.parametrize("family", FAMILIES)
def test_onnx_runtime_equals_the_eager_model(subjects: Subjects, family: str) -> None:
    with load(subjects(family).path, executor="onnx") as bundle:
        assert_close(bundle, subjects(family).model, 2)


def assert_close(bundle: Bundle, model: Any, rows: int) -> None:
    ids = tokens(rows, 20)
    expected = eager(model, ids)
    for prompt, chunk in SPLITS:
        error = largest_error(bundle, ids.numpy(), expected, prompt, chunk)
        assert error <= TOLERANCE, f"prompt {prompt}, {chunk} at a time: {error:.1e}"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_logits_hang_on_the_past(subjects: Subjects, family: str) -> None:
    """Were attention flat, the test above would say little."""
    changed = tokens(1, 20)
    changed[:, 20 - WINDOW] += 1
    model = subjects(family).model
    moved = eager(model, changed)[:, -1] - eager(model, tokens(1, 20))[:, -1]
    assert abs(moved).max() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_no_more_state_than_the_family_needs(subjects: Subjects, family: str) -> None:
    layers: dict[int | None, set[str]] = {}
    for spec in subjects(family).bundle.contract.states:
        layers.setdefault(spec.layer, set()).add(written(spec))
    assert tuple("".join(sorted(layers[layer])) for layer in range(len(layers))) == STATES[family]


def written(spec: StateSpec) -> str:
    return f"{spec.kind}[{','.join(map(str, spec.shape))}]"


@pytest.mark.parametrize("family", ["gpt2", "gpt_oss"])
def test_an_exported_program_in_memory(family: str) -> None:
    # Experts as a loop over who chose them cannot be exported with dynamic sizes.
    model = build(family, experts_implementation="batched_mm")
    with hetc.compile(export(Forward(model))) as bundle:
        ids = tokens(3, 20)
        assert bundle.manifest.model.max_context == CONTEXT - 1
        error = largest_error(bundle, ids.numpy(), eager(model, ids), 12, 1)
        assert error <= TOLERANCE


def test_a_traced_module() -> None:
    module = Scores()
    traced = torch.fx.symbolic_trace(module)
    with hetc.compile((traced, (tokens(2, 12),))) as bundle:
        ids = tokens(2, 20)
        with torch.no_grad():
            expected = module(ids).numpy()
        assert largest_error(bundle, ids.numpy(), expected, 12, 1) <= TOLERANCE


class Scores(torch.nn.Module):
    """One attention of torch's own between an embedding and a projection."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(VOCABULARY, 16)
        self.query, self.key, self.value = (torch.nn.Linear(16, 16) for _ in range(3))
        self.head = torch.nn.Linear(16, VOCABULARY)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(input_ids)
        q, k, v = (part(hidden).unsqueeze(1) for part in (self.query, self.key, self.value))
        attention = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        logits: torch.Tensor = self.head(hidden + attention.squeeze(1))
        return logits
