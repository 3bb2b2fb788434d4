"""Compiled decode steps with sliding windows: while one fills, when it is full, and far beyond."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from hetc.interop import backend
from hetc.interop.step_caches import caches_of
from tests.interop.generation import NEW, PROMPT, model_of, prompt, same_text, steps


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("family", ["mistral", "gemma2"])
@pytest.mark.parametrize("length", [5, PROMPT])
def test_prompts_shorter_and_longer_than_the_window(family: str, cache: str, length: int) -> None:
    model = model_of(family)
    ids = prompt(length=length)
    same_text(model, ids, cache)
    assert sum(graph.whole_calls for graph in steps()) == NEW - 1
    assert all(not graph.refusals for graph in steps())


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("family", ["phi3", "gemma3_text", "gpt_oss"])
def test_other_families(family: str, cache: str) -> None:
    model = model_of(family)
    same_text(model, prompt(2, 5), cache)
    assert sum(graph.whole_calls for graph in steps()) == NEW - 1


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_a_window_that_fills_over_many_steps(cache: str) -> None:
    model = model_of("mistral", sliding_window=PROMPT + NEW // 2)
    same_text(model, prompt(3), cache)
    assert sum(graph.whole_calls for graph in steps()) == NEW - 1


def test_a_full_window_that_somebody_wrote_into_is_read_again() -> None:
    model = model_of("gemma2")
    step = torch.compile(model.forward, backend=backend)
    with torch.no_grad():
        pasts = [model(prompt(), use_cache=True).past_key_values for _ in range(2)]
        for token in (7, 9, 8, 11, 6):
            ids = torch.tensor([[token]])
            found, expected = (
                call(ids, past_key_values=past, use_cache=True).logits
                for call, past in zip((step, model), pasts, strict=True)
            )
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
            for past in pasts:
                past.layers[0].values[:, :, -2] += 1.0
                past.layers[1].keys[:, :, 3] *= 0.5
    assert sum(graph.whole_calls for graph in steps()) == 5


def test_a_window_of_which_rows_are_missing_runs_otherwise() -> None:
    """The position says that the window is full, and the cache that it is not."""
    model = model_of("mistral")
    step = torch.compile(model.forward, backend=backend)
    with torch.no_grad():
        pasts = [model(prompt(), use_cache=True).past_key_values for _ in range(2)]
        for past in pasts:
            for layer in past.layers:
                layer.keys, layer.values = layer.keys[:, :, 2:], layer.values[:, :, 2:]
                layer.cumulative_length = layer.keys.shape[2]
        ids, where = torch.tensor([[7]]), torch.tensor([[PROMPT]])
        found, expected = (
            call(ids, past_key_values=past, position_ids=where, use_cache=True).logits
            for call, past in zip((step, model), pasts, strict=True)
        )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not any(graph.whole_calls for graph in steps())
    assert all(graph.refusals for graph in steps())


def test_a_window_of_any_length_is_no_cache_of_a_step() -> None:
    def shifted(x: torch.Tensor) -> torch.Tensor:
        return x.roll(-1, 2)

    cases: list[tuple[Any, list[str]]] = [("real", ["shifted"]), ("symbolic", [])]
    for mode, found in cases:
        traced = make_fx(shifted, tracing_mode=mode)(torch.zeros(2, 3, 5, 4))
        placeholders = traced.graph.find_nodes(op="placeholder")
        assert [cache.form for cache in caches_of(placeholders, [])] == found
