"""Decode steps under torch.compile run on the native engine, and only while that is right."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from hetc.interop import backend
from tests.interop.generation import (
    NEW,
    PROMPT,
    Stepper,
    generate,
    model_of,
    prompt,
    same_text,
    steps,
)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "gpt_neox", "opt"])
def test_generate_gives_the_text_of_the_eager_model(family: str, cache: str) -> None:
    model = model_of(family)
    same_text(model, prompt(), cache)
    # Also with a cache that grows: Dynamo was told that it would.
    (graph,) = steps()
    assert graph.whole is not None
    assert (graph.whole.executor, graph.whole.calls) == ("native", NEW - 1)
    assert graph.whole.placed == {"sn40l": sum(graph.whole.marks.values())}
    assert graph.whole.estimated_s > 0
    assert not graph.refusals


def test_sizes_stay_numbers_where_they_are_asked_to() -> None:
    model, ids = model_of("llama"), prompt()
    step: Any = torch.compile(model.forward, backend=backend, dynamic=False)
    with torch.no_grad():
        past: Any = step(ids, use_cache=True).past_key_values
        for _ in range(3):
            step(ids[:, :1], past_key_values=past, use_cache=True)
    assert len(steps()) == 3


def test_bfloat16_logits_are_as_near_as_its_rounding() -> None:
    model = model_of("llama").to(torch.bfloat16)
    ids = prompt()
    with torch.no_grad():
        past = model(ids, use_cache=True).past_key_values
        token = torch.tensor([[7]])
        expected = model(token, past_key_values=past, use_cache=True).logits.float()
        past.crop(-1)
        model.forward = torch.compile(model.forward, backend=backend)
        found = model(token, past_key_values=past, use_cache=True).logits
    assert found.dtype is torch.bfloat16
    assert (found.float() - expected).abs().max() <= 0.02 * expected.abs().max()
    assert [graph.whole_calls for graph in steps()] == [1]


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize(("family", "rows"), [("llama", 3), ("bloom", 2)])
def test_several_sequences(family: str, rows: int, cache: str) -> None:
    same_text(model_of(family), prompt(rows), cache)
    assert sum(graph.whole_calls for graph in steps()) == NEW - 1
    assert not any(graph.refusals for graph in steps())


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize(("family", "padding"), [("llama", 4), ("mistral", 8)])
def test_prompts_that_are_padded_run_otherwise(family: str, padding: int, cache: str) -> None:
    mask = torch.ones(2, PROMPT, dtype=torch.long)
    mask[0, :padding] = 0
    same_text(model_of(family), prompt(2), cache, attention_mask=mask)
    assert not any(graph.whole_calls for graph in steps())
    assert all(graph.refusals for graph in steps())


def test_a_cache_that_somebody_wrote_into_is_read_again() -> None:
    stepper = Stepper()
    stepper.both(5)
    with torch.no_grad():
        stepper.past.layers[0].values[:, :, 3] += 1.0
        stepper.past.layers[1].keys.mul_(0.5)
    torch.testing.assert_close(*stepper.both(6), rtol=1e-4, atol=1e-4)
    stepper.past.crop(8 - stepper.past.get_seq_length())
    torch.testing.assert_close(*stepper.both(9), rtol=1e-4, atol=1e-4)
    assert sum(graph.whole_calls for graph in steps()) == 3


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("token", [-1, 128, 10**12])
def test_a_token_that_is_none(token: int, first: bool) -> None:
    model, ids = model_of("llama"), prompt()
    assert model.config.vocab_size == 128
    model.forward = torch.compile(model.forward, backend=backend)
    with torch.no_grad():
        past: Any = model(ids, use_cache=True).past_key_values
        if not first:
            model(ids[:, :1], past_key_values=past, use_cache=True)
        with pytest.raises(IndexError, match="out of range"):
            model(torch.tensor([[token]]), past_key_values=past, use_cache=True)


@pytest.mark.parametrize("kept", ["keys", "values"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none_stay_so(number: float, kept: str) -> None:
    stepper = Stepper()
    stepper.both(5)
    with torch.no_grad():
        getattr(stepper.past.layers[0], kept)[0, 0, 2, 1] = number
    found, expected = stepper.both(6)
    assert expected.isnan().all()
    torch.testing.assert_close(found, expected, equal_nan=True)
    assert sum(graph.whole_calls for graph in steps()) == 2


@pytest.mark.parametrize("rows", [1, 2])
def test_tokens_of_32_bits(rows: int) -> None:
    stepper = Stepper()
    ids = torch.arange(3, 3 + 6 * rows, dtype=torch.int32).reshape(rows, 6)
    with torch.no_grad():
        theirs, ours = (stepper.model(ids, use_cache=True).past_key_values for _ in range(2))
        for token in range(3):
            step = torch.full((rows, 1), 7 + token, dtype=torch.int32)
            expected = stepper.model(step, past_key_values=theirs, use_cache=True).logits
            found = stepper.step(step, past_key_values=ours, use_cache=True).logits
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert sum(graph.whole_calls for graph in steps()) == 3


def test_weights_that_change_are_not_those_of_the_step() -> None:
    stepper = Stepper()
    stepper.both(5)
    with torch.no_grad():
        stepper.model.lm_head.weight.add_(0.25)
    torch.testing.assert_close(*stepper.both(6), rtol=1e-4, atol=1e-4)
    assert sum(graph.whole_calls for graph in steps()) == 1
    assert "weights" in str(steps()[-1].refusals[-1])


def test_inference_mode() -> None:
    model = model_of("llama")
    expected = generate(model, prompt(), "static")
    model.forward = torch.compile(model.forward, backend=backend)
    with torch.inference_mode():
        assert generate(model, prompt(), "static") == expected
    assert sum(graph.whole_calls for graph in steps()) == NEW - 1


def test_what_is_no_step_says_why() -> None:
    model = model_of("lfm2")
    model.forward = torch.compile(model.forward, backend=backend)
    generate(model, prompt(), "dynamic")
    assert steps()
    assert all(graph.refusals and not graph.whole_calls for graph in steps())


def test_a_write_that_pytorch_does_not_count_is_noticed() -> None:
    stepper = Stepper()
    stepper.both(5)
    stepper.model.model.layers[0].mlp.up_proj.weight.data.mul_(1.5)
    torch.testing.assert_close(*stepper.both(6), rtol=1e-4, atol=1e-4)
    assert sum(graph.whole_calls for graph in steps()) == 1


def test_other_executors_take_no_steps() -> None:
    model = model_of("llama")
    expected = generate(model, prompt(), "static")
    model.forward = torch.compile(model.forward, backend=backend, options={"executor": "onnx"})
    assert generate(model, prompt(), "static") == expected
    assert [graph.whole for graph in steps()] == [None]


def test_another_prompt_in_the_same_memory_is_read_anew() -> None:
    model = model_of("llama")
    prompts = [prompt(), prompt() - 1]
    expected = [generate(model, ids, "dynamic") for ids in prompts]
    model.forward = torch.compile(model.forward, backend=backend)
    for _ in range(3):
        assert [generate(model, ids, "dynamic") for ids in prompts] == expected


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_static_caches_of_other_lengths(family: str) -> None:
    model = model_of(family)
    prompts = [prompt(length=length) for length in (12, 9, 15, 4)]
    expected = [generate(model, ids, "static") for ids in prompts]
    model.forward = torch.compile(model.forward, backend=backend)
    assert [generate(model, ids, "static") for ids in prompts] == expected
    assert sum(graph.whole_calls for graph in steps()) == len(prompts) * (NEW - 1)
    assert not any(graph.refusals for graph in steps())


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_more_positions_than_a_step_was_made_for(cache: str) -> None:
    model = model_of("llama")
    ids = prompt(length=1015)
    expected = generate(model, ids, cache)
    model.forward = torch.compile(model.forward, backend=backend)
    assert generate(model, ids[:, :5], cache) == generate(model_of("llama"), ids[:, :5], cache)
    assert generate(model, ids, cache) == expected
    assert sum(graph.whole_calls for graph in steps()) == 2 * (NEW - 1)


def test_two_threads_with_caches_of_their_own() -> None:
    model = model_of("llama")
    prompts = [prompt(), prompt() - 1]
    expected = [generate(model, ids, "static") for ids in prompts]
    model.forward = torch.compile(model.forward, backend=backend)
    generate(model, prompts[0], "static")
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda ids: generate(model, ids, "static"), prompts))
    assert found == expected


@torch.no_grad()
def test_a_cache_that_is_a_negative_in_memory_runs_otherwise() -> None:
    stepper, token = Stepper(), torch.tensor([[5]])
    plain = copy.deepcopy(stepper.past)
    expected = stepper.model(token, past_key_values=plain, use_cache=True).logits
    for layer in stepper.past.layers:
        layer.keys = torch._neg_view(-layer.keys)
    found = stepper.step(token, past_key_values=stepper.past, use_cache=True).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert [graph.whole_calls for graph in steps()] == [0]


def test_a_static_cache_whose_writes_nobody_counts_is_read_at_each_call() -> None:
    model = model_of("llama")
    expected = generate(model, prompt(), "static")
    model.forward = torch.compile(model.forward, backend=backend)
    counts = []
    with torch.inference_mode():
        for _ in range(2):
            assert generate(model, prompt(), "static") == expected
            counts.append(sum(graph.whole_calls for graph in steps()))
    assert counts == [NEW - 1, 2 * (NEW - 1)]
