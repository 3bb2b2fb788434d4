"""`generate` of transformers on compiled models: the text of the eager ones, with each cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._dynamo.backends.registry import list_backends, register_backend
from transformers import (
    CompileConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from hetc.interop import backend, last_report

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=97, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2)
    ),
    "sliding window": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=8)),
}


@pytest.fixture
def registered() -> None:
    """The backend by its name, also where hetc is not installed with its entry point."""
    if "hetc" not in list_backends():
        register_backend(backend, name="hetc")


def settings(tokens: torch.Tensor) -> dict[str, Any]:
    return {
        "max_new_tokens": 12,
        "do_sample": False,
        "pad_token_id": 0,
        "eos_token_id": None,
        "attention_mask": torch.ones_like(tokens),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_compiled_forward_with_a_growing_cache(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    prompts = [torch.randint(0, 97, (2, length)) for length in (7, 11, 5)]
    wanted = [model.generate(tokens, **settings(tokens)) for tokens in prompts]
    torch._dynamo.reset()
    model.forward = torch.compile(model.forward, backend=backend)
    for tokens, text in zip(prompts, wanted, strict=True):
        assert torch.equal(model.generate(tokens, **settings(tokens)), text)
    report = last_report()
    # One graph a phase for the first lengths, and one a phase for all others; a window that is
    # being filled is another graph than a full one.
    assert len(report.graphs) <= (7 if name == "sliding window" else 5)
    assert {graph.phase for graph in report.graphs} == {"prefill", "decode"}
    assert not report.fallbacks
    assert not report.graph_breaks


@pytest.mark.slow
@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("name", MODELS)
def test_a_static_cache(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    tokens = torch.randint(0, 97, (2, 7))
    wanted = model.generate(tokens, **settings(tokens))
    torch._dynamo.reset()
    config = CompileConfig(backend="hetc", mode=None, fullgraph=False)
    # transformers compiles on GPUs only, unless told otherwise.
    config._compile_all_devices = True
    made = model.generate(
        tokens, cache_implementation="static", compile_config=config, **settings(tokens)
    )
    assert torch.equal(made, wanted)
    report = last_report()
    assert {graph.phase for graph in report.graphs} == {"decode"}
    assert sum(graph.calls for graph in report.graphs) == 11
    assert not report.fallbacks
