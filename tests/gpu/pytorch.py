"""What transformers' own model makes of a prompt, by the names that a prefill half gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.gpu.prompts import Tokens


def results(model: Any, tokens: Tokens, states: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """`logits` [B,1,V] of the last token, and `state.NAME` of each of the `states`, which are keys
    and values of every layer in turn."""
    with torch.inference_mode():
        out = model(torch.from_numpy(tokens), use_cache=True)
    layers = out.past_key_values.layers
    caches = [cache for layer in layers for cache in (layer.keys, layer.values)]
    found = {f"state.{name}": cache for name, cache in zip(states, caches, strict=True)}
    found["logits"] = out.logits[:, -1:]
    return {name: tensor.float().numpy() for name, tensor in found.items()}
