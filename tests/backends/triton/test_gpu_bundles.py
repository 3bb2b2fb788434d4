"""The models of `tests/gpu` that are hardest to round, in the interpreter: within the bounds that a
GPU is held to, and by prompts that are made as theirs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from benchmarks.machine import smollm2
from hetc.backends.triton.lower import lower
from hetc.driver.compile import quiet
from hetc.driver.plan import plan
from hetc.frontends.original import model_of_gguf
from tests.backends.triton.halves import Half
from tests.backends.triton.interpreting import Interpreter
from tests.backends.triton.run_plan import StateShape, run_plan
from tests.gpu import prompts
from tests.gpu.make_bundles import OPTIONS, model
from tests.gpu.prompts import Tokens, clear_prompts, random_prompts
from tests.gpu.pytorch import results, rounding
from tests.gpu.tolerance import error, too_far

Arrays = Mapping[str, NDArray[Any]]


def half_of(source: Path) -> Half:
    planned = plan(source, OPTIONS, quiet)
    names = tuple(spec.name for spec in planned.program.states)
    return Half(planned, lower(planned.program.prefill, names, "sm_90"))


def errors(interpreter: Interpreter, half: Half, tokens: Tokens, exact: Arrays) -> dict[str, float]:
    """How far logits and states of the kernels are from those of f32."""
    weights = half.planned.lowered.weights
    kernels = half.lowered.kernels
    ran = run_plan(interpreter, half.plan(), kernels, tokens.tolist(), weights)
    lengths = [tokens.shape[1]] * len(tokens)
    found = {"logits": error(ran.logits[:, None], exact["logits"])}
    for spec in half.planned.program.states:
        cache = exact[f"state.{spec.name}"]
        shape = StateShape(cache.shape[1], cache.shape[3], spec.keep)
        states = [ran.state(spec.name, shape, lengths, i) for i in range(len(tokens))]
        found[f"state.{spec.name}"] = error(np.stack(states), cache)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mixtral", "gpt_oss"])
def test_numbers_are_those_of_f32(
    interpreter: Interpreter, tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "SHAPES", ((2, 33), (1, 128)))
    folder = model(family, tmp_path / family)
    exact = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    half = half_of(folder)
    for tokens in clear_prompts(folder):
        found = errors(interpreter, half, tokens, results(exact, tokens, half.states))
        assert not too_far(found, tokens), tokens.shape


@pytest.mark.slow
def test_a_real_model_is_rounded_as_pytorch_rounds_it(interpreter: Interpreter) -> None:
    rounded = model_of_gguf(smollm2(), "bfloat16").eval()
    exact = copy.deepcopy(rounded).float()
    half = half_of(smollm2())
    for tokens in random_prompts(rounded.config.vocab_size)[:3]:
        true = results(exact, tokens, half.states)
        by_pytorch = rounding(rounded, tokens, half.states, true)
        found = errors(interpreter, half, tokens, true)
        assert not too_far(found, tokens, by_pytorch), tokens.shape
