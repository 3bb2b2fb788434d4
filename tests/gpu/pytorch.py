"""What transformers' own model makes of a prompt, by the names that a prefill half gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.gpu.prompts import Tokens, random_prompts
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


def ways(
    model: Any, tokens: Tokens, states: Sequence[str]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """`results` in every way in which PyTorch may compute them on a CPU."""
    for attention, onednn in product(("sdpa", "eager"), (True, False)):
        model.set_attn_implementation(attention)
        with torch.backends.mkldnn.flags(enabled=onednn):
            yield results(model, tokens, states)


def rounding(
    model: Any, tokens: Tokens, states: Sequence[str], exact: Mapping[str, NDArray[Any]]
) -> dict[str, float]:
    """How far the results of `model` are from `exact`, by the names in it.

    Sums in another order give other errors, so they are those of all `ways`, taken together.
    """
    found = list(ways(model, tokens, states))
    return {
        name: root_mean_square(error(each[name], array) for each in found)
        for name, array in exact.items()
    }


def main() -> None:
    """Print how far SmolLM2's results in bf16 are from f32, in each way: why `too_far` gives more
    room to the logits of one prompt."""
    from benchmarks.machine import smollm2
    from hetc.frontends.original import model_of_gguf

    exact, rounded = (model_of_gguf(smollm2(), dtype).eval() for dtype in ("float32", "bfloat16"))
    states = [str(number) for number in range(2 * exact.config.num_hidden_layers)]
    for tokens in random_prompts(exact.config.vocab_size):
        true = results(exact, tokens, states)
        made = list(ways(rounded, tokens, states))
        errors = {name: [error(each[name], array) for each in made] for name, array in true.items()}
        apart = {name: max(each) / min(each) for name, each in errors.items()}
        logits = ", ".join(f"{each:.4f}" for each in errors["logits"])
        of_logits = apart.pop("logits")
        print(
            f"{tokens.shape}: logits {logits}, {of_logits:.2f} times apart; "
            f"states up to {max(apart.values()):.2f}"
        )


if __name__ == "__main__":
    main()
