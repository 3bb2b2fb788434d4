"""Compiled decode steps of models with ALiBi."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from hetc.interop import backend
from tests.interop.generation import NEW, generate, model_of, prompt, steps


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_generate_gives_the_text_of_the_eager_model(cache: str) -> None:
    model = model_of("bloom")
    expected = generate(model, prompt(2), cache)
    model.forward = torch.compile(model.forward, backend=backend)
    assert generate(model, prompt(2), cache) == expected
    assert sum(graph.whole_calls for graph in steps()) == NEW - 1
    assert not any(graph.refusals for graph in steps())
