"""Find out what becomes of a type: build it, compile it, and compare it with transformers."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

import hetc
from hetc.errors import HetcError
from tests.architectures.case import SMALL, Case
from tests.driver.models import eager, save, sharpened, tokens
from tests.driver.stepping import largest_error

ROWS, PROMPT, DECODED = 2, 16, 8
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Found:
    """What became of a type: the largest error of its logits, or the error that it gave."""

    error: float | None = None
    refusal: HetcError | None = None


def configuration(name: str, case: Case) -> Any:
    """The configuration of the type."""
    fields = {key: value for key, value in {**SMALL, **case.config}.items() if value is not None}
    config = AutoConfig.for_model(name, **fields)
    config.use_cache = False
    return config


def build(name: str, case: Case) -> Any:
    """A random model of the type, f32, in evaluation mode."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = configuration(name, case)
        return sharpened(AutoModelForCausalLM.from_config(config).float().eval())


def attempt(name: str, case: Case, folder: Path) -> Found:
    """Compile the type from a Hugging Face directory, and compare 16 prefilled and 8 decoded tokens
    of two sequences with transformers' own logits."""
    ids = tokens(ROWS, PROMPT + DECODED)
    if not case.alone:
        return _not_alone(name, case, ids, folder / name)
    model = build(name, case)
    expected = eager(model, ids)
    try:
        bundle = hetc.compile(
            save(model, folder / name), context=case.context, prefill="host", decode="host"
        )
    except HetcError as error:
        return Found(refusal=error)
    with bundle:
        return Found(error=largest_error(bundle, ids.numpy(), expected, PROMPT, 1))


def _not_alone(name: str, case: Case, ids: torch.Tensor, folder: Path) -> Found:
    """What hetc says to a configuration of which transformers makes no logits either."""
    with pytest.raises((ImportError, ValueError, AttributeError)):
        eager(build(name, case), ids)
    config = configuration(name, case)
    config.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[name]]
    config.save_pretrained(folder)
    try:
        hetc.compile(folder).close()
    except HetcError as error:
        return Found(refusal=error)
    return Found()
