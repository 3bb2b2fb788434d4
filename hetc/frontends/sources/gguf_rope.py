"""The rotary frequency factors that converters write into GGUF files of Llama 3.1 and later.

A GGUF file has no key for Llama 3's frequency scaling; it has the resulting factors, one for each
frequency. transformers reads neither, so a model rebuilt without them is wrong from the start.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from hetc.errors import InputError
from hetc.frontends.sources.model_source import Array

# The scaling of every Llama 3 release (config.json of Llama-3.1 and Llama-3.2), but for its factor.
_LLAMA3 = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def with_rope_factors(config: Any, factors: Array, path: Path) -> tuple[Any, tuple[str, ...]]:
    """A copy of `config` whose rotary embedding has these factors (f32[head_dim/2]), and a note.

    The factors are recognised, not guessed: the scaling that is put into the config is evaluated
    and must give them back. Error: HETC-I068 where no known scaling does.
    """
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    if np.all(factors == 1.0):
        return config, ()
    scaled = copy.deepcopy(config)
    theta = config.rope_parameters["rope_theta"]
    factor = float(np.max(factors))
    scaled.rope_parameters = {
        "rope_type": "llama3",
        "rope_theta": theta,
        "factor": factor,
        **_LLAMA3,
    }
    frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](scaled, device="cpu")
    plain = theta ** -(np.arange(len(factors)) / len(factors))
    same_length = len(frequencies) == len(factors)
    found = plain / frequencies.numpy() if same_length else plain
    if not np.allclose(found, factors, rtol=1e-4):
        raise InputError(
            "HETC-I068",
            "the file scales rotary frequencies in a way that hetc does not know",
            at=f"{path}: rope_freqs.weight",
            expected="the factors of Llama 3's scaling",
            found=f"{len(factors)} factors from {float(np.min(factors)):g} to {factor:g}",
            do="compile the model's Hugging Face directory instead",
        )
    return scaled, (f"rotary scaling llama3, factor {factor:g}, recognised from rope_freqs.weight",)
