"""Generations of tiny models with each cache of transformers, and the graphs of their steps."""

from __future__ import annotations

from typing import Any

import torch

from hetc.interop import backend, last_report
from hetc.interop.report import GraphReport
from tests.driver.models import build

PROMPT, NEW = 12, 20


def model_of(family: str, **changes: Any) -> Any:
    """A random model that keeps caches."""
    model = build(family, **changes)
    model.config.use_cache = model.generation_config.use_cache = True
    return model


def prompt(rows: int = 1, length: int = PROMPT) -> torch.Tensor:
    """Random tokens, the same at every call."""
    return torch.randint(3, 128, (rows, length), generator=torch.Generator().manual_seed(1))


def generate(model: Any, ids: torch.Tensor, cache: str, **more: Any) -> list[list[int]]:
    """Prompt and NEW tokens that follow, greedily."""
    static = {"cache_implementation": "static"} if cache == "static" else {}
    sizes = {"max_new_tokens": NEW, "min_new_tokens": NEW}
    found: list[list[int]] = model.generate(
        ids, do_sample=False, disable_compile=True, **sizes, **static, **more
    ).tolist()
    return found


def same_text(model: Any, ids: torch.Tensor, cache: str, **more: Any) -> None:
    """Compile `model`, and assert that it goes on as it did before."""
    expected = generate(model, ids, cache, **more)
    model.forward = torch.compile(model.forward, backend=backend)
    assert generate(model, ids, cache, **more) == expected


def steps() -> list[GraphReport]:
    """The graphs that take one token."""
    return [graph for graph in last_report().graphs if graph.phase == "decode"]


class Stepper:
    """A compiled model with a cache of the prompt, called a token at a time."""

    def __init__(self, family: str = "llama", **changes: Any) -> None:
        self.model = model_of(family, **changes)
        self.step: Any = torch.compile(self.model.forward, backend=backend, dynamic=True)
        with torch.no_grad():
            self.past: Any = self.model(prompt(), use_cache=True).past_key_values

    @torch.no_grad()
    def both(self, token: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the compiled and of the eager model, from the same cache."""
        ids, length = torch.tensor([[token]]), self.past.get_seq_length()
        expected = self.model(ids, past_key_values=self.past, use_cache=True).logits
        self.past.crop(length - self.past.get_seq_length())
        found = self.step(ids, past_key_values=self.past, use_cache=True).logits
        return found, expected
