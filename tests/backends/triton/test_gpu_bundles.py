"""The models of `tests/gpu` that choose experts, in the interpreter: within the bound that a GPU is
held to, and by prompts that are made as theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from hetc.backends.triton.lower import lower
from hetc.driver.compile import quiet
from hetc.driver.plan import plan
from tests.backends.triton.halves import Half
from tests.backends.triton.interpreting import Interpreter
from tests.backends.triton.run_plan import StateShape, run_plan
from tests.gpu import prompts
from tests.gpu.make_bundles import OPTIONS, model
from tests.gpu.prompts import clear_prompts
from tests.gpu.tolerance import TOLERANCE, error


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mixtral", "gpt_oss"])
def test_numbers_are_those_of_f32(
    interpreter: Interpreter, tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "SHAPES", ((2, 33), (1, 128)))
    folder = model(family, tmp_path / family)
    exact = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    planned = plan(folder, OPTIONS, quiet)
    states = planned.program.states
    half = Half(planned, lower(planned.program.prefill, tuple(spec.name for spec in states)))
    launches, weights = half.plan(), planned.lowered.weights
    for tokens in clear_prompts(folder):
        ran = run_plan(interpreter, launches, half.lowered.kernels, tokens.tolist(), weights)
        with torch.inference_mode():
            out = exact(torch.from_numpy(tokens), use_cache=True)
        errors = {"logits": error(ran.logits, out.logits[:, -1].numpy())}
        caches = [
            cache for layer in out.past_key_values.layers for cache in (layer.keys, layer.values)
        ]
        lengths = [tokens.shape[1]] * len(tokens)
        for spec, cache in zip(states, caches, strict=True):
            shape = StateShape(cache.shape[1], cache.shape[3], spec.keep)
            found = [ran.state(spec.name, shape, lengths, i) for i in range(len(tokens))]
            errors[spec.name] = error(np.stack(found), cache.numpy())
        assert max(errors.values()) < TOLERANCE, errors
