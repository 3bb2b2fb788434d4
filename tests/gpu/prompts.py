"""Prompts of the bundles, in which rounding decides no choice of experts.

Where two experts of a token are nearly tied, bf16 takes another one than f32 does, and what comes
of that token is another: no bound on rounding holds for it. A router of larger weights does not
help, for its scores are rounded as much more. So tokens that are near a tie are drawn again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

Tokens = NDArray[np.int64]
# Sequences and tokens of each: odd ones, one tile and more, within and beyond the window.
SHAPES = ((1, 1), (1, 7), (2, 33), (3, 128), (1, 300))
# How far the last expert that a token takes must be ahead of the first that it does not, as a part
# of the deviation of the layer's scores. Transformers in bf16 moves that lead by up to 0.04.
LEAD = 0.15
_DRAWS = 1000
# Those before are special in most vocabularies.
_FIRST = 3


def random_prompts(vocabulary: int) -> list[Tokens]:
    """Token ids of every shape, the same each time."""
    generator = np.random.default_rng(0)
    return [generator.integers(_FIRST, vocabulary, shape) for shape in SHAPES]


def clear_prompts(folder: Path) -> list[Tokens]:
    """Random prompts that the Hugging Face model in `folder` sends to its experts by `LEAD`.

    Of a model without experts, they are the random ones. Where tokens stay near a tie, the process
    ends with a message.
    """
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    vocabulary = model.config.vocab_size
    prompts = random_prompts(vocabulary)
    chosen = getattr(model.config, "num_experts_per_tok", 0)
    if not chosen:
        return prompts
    found = [router_scores(model, tokens) for tokens in prompts]
    deviation = np.concatenate([scores.reshape(len(scores), -1) for scores in found], 1).std(1)
    generator = np.random.default_rng(1)
    for tokens in prompts:
        for _ in range(_DRAWS):
            ahead = leads(router_scores(model, tokens), chosen) / deviation[:, None, None]
            near = (ahead < LEAD).any(axis=0)
            sequences = np.flatnonzero(near.any(axis=1))
            if not sequences.size:
                break
            # The first of each alone: those behind it see another token then.
            first = near[sequences].argmax(axis=1)
            tokens[sequences, first] = generator.integers(_FIRST, vocabulary, sequences.size)
        else:
            raise SystemExit(
                f"{folder.name}: after {_DRAWS} draws a token of the prompt {tokens.shape} is still"
                f" within {LEAD} deviations of a tie of experts, which bf16 may decide otherwise"
                " than f32: give its router other weights"
            )
    return prompts


def router_scores(model: Any, tokens: Tokens) -> NDArray[np.float32]:
    """What the routers of all layers say of `tokens` [B,S], as [layers,B,S,experts]."""
    with torch.inference_mode():
        found = model(torch.from_numpy(tokens), output_router_logits=True).router_logits
    return np.stack([scores.float().numpy().reshape(*tokens.shape, -1) for scores in found])


def leads(scores: NDArray[np.float32], chosen: int) -> NDArray[np.float32]:
    """How far the last of the `chosen` best is ahead of the next, of each token."""
    ordered = np.sort(scores, axis=-1)
    lead: NDArray[np.float32] = ordered[..., -chosen] - ordered[..., -chosen - 1]
    return lead
