"""What transformers' own model makes of a prompt, by the names that a prefill half gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.gpu.prompts import Tokens
from tests.gpu.tolerance import error, root_mean_square


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


def rounding(
    model: Any, tokens: Tokens, states: Sequence[str], exact: Mapping[str, NDArray[Any]]
) -> dict[str, float]:
    """How far the results of `model` are from `exact`, by the names in it.

    Sums in another order give other errors, so they are those of all ways in which PyTorch may
    compute them on a CPU, taken together.
    """
    errors: dict[str, list[float]] = {name: [] for name in exact}
    for attention, onednn in product(("sdpa", "eager"), (True, False)):
        model.set_attn_implementation(attention)
        with torch.backends.mkldnn.flags(enabled=onednn):
            found = results(model, tokens, states)
        for name, array in exact.items():
            errors[name].append(error(found[name], array))
    return {name: root_mean_square(each) for name, each in errors.items()}
