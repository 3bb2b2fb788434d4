"""Prompts of the bundles: what they are of models with and without experts; this needs no GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.driver.models import VOCABULARY, build, save
from tests.gpu import prompts
from tests.gpu.prompts import LEAD, clear_prompts, leads, random_prompts, router_scores


def test_without_experts_they_are_random(tmp_path: Path) -> None:
    found = clear_prompts(save(build("llama"), tmp_path))
    for ours, theirs in zip(found, random_prompts(VOCABULARY), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_lead_is_that_over_the_first_that_is_left() -> None:
    scores = np.array([[4.0, 1.0, 3.5, 2.0], [0.0, 0.0, 0.0, 0.5]], np.float32)
    np.testing.assert_array_equal(leads(scores, 1), [0.5, 0.5])
    np.testing.assert_array_equal(leads(scores, 2), [1.5, 0.0])


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss", "qwen3_moe"])
def test_rounding_decides_no_choice(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers in bf16 takes the experts of f32, whose leads are as far as promised."""
    monkeypatch.setattr(prompts, "SHAPES", ((1, 1), (2, 20)))
    made = build(family)
    folder = save(made.to(torch.bfloat16), tmp_path)
    found, chosen = clear_prompts(folder), made.config.num_experts_per_tok
    exact, rounded = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert any((a != b).any() for a, b in zip(found, random_prompts(VOCABULARY), strict=True))
    for tokens in found:
        scores = router_scores(exact, tokens)
        # Of fewer scores than the deviation that the prompts were drawn by.
        assert (leads(scores, chosen) > LEAD / 2 * scores.std()).all()
        best = np.argsort(scores, axis=-1)[..., -chosen:]
        theirs = np.argsort(router_scores(rounded, tokens), axis=-1)[..., -chosen:]
        np.testing.assert_array_equal(np.sort(best, axis=-1), np.sort(theirs, axis=-1))


def test_a_model_that_never_decides_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "_DRAWS", 3)
    made = build("mixtral")
    with torch.no_grad():
        # Two experts that always score the same.
        for layer in made.model.layers:
            layer.mlp.gate.weight[1] = layer.mlp.gate.weight[0]
    folder = save(made, tmp_path / "undecided")
    with pytest.raises(
        SystemExit, match=r"undecided: after 3 draws a token of the prompt \(1, 7\)"
    ):
        clear_prompts(folder)
