"""Find out what becomes of a type: build it, compile it, and compare it with transformers."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

import hetc
from hetc.errors import HetcError
from tests.architectures.case import Case
from tests.driver.models import CONTEXT, VOCABULARY, eager, save, sharpened, tokens
from tests.driver.stepping import largest_error

ROWS, PROMPT, DECODED = 2, 16, 8
TOLERANCE = 1e-4
# What most configurations call their sizes; those of a case come on top.
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@dataclass(frozen=True)
class Found:
    """What became of a type: the largest error of its logits, or the error that it gave."""

    error: float | None = None
    refusal: HetcError | None = None


def build(name: str, case: Case) -> Any:
    """A random model of the type, f32, in evaluation mode."""
    fields = {key: value for key, value in {**SMALL, **case.config}.items() if value is not None}
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = AutoConfig.for_model(name, **fields)
        config.use_cache = False
        return sharpened(AutoModelForCausalLM.from_config(config).float().eval())


def attempt(name: str, case: Case, folder: Path) -> Found:
    """Compile the type from a Hugging Face directory, and compare 16 prefilled and 8 decoded tokens
    of two sequences with transformers' own logits."""
    model = build(name, case)
    ids = tokens(ROWS, PROMPT + DECODED)
    expected = eager(model, ids)
    try:
        bundle = hetc.compile(
            save(model, folder / name), context=case.context, prefill="host", decode="host"
        )
    except HetcError as error:
        return Found(refusal=error)
    with bundle:
        return Found(error=largest_error(bundle, ids.numpy(), expected, PROMPT, 1))
