"""What every model source gives: a config, weights that stay on disk until asked for, tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hetc.errors import Reason
from hetc.ir.model import StoredGroups

Array = np.ndarray


@dataclass(frozen=True)
class TokenizerFiles:
    """A tokenizer as a bundle keeps it.

    `tokenizer_json` is a file of the `tokenizers` library. `config` has the keys `chat_template`,
    `bos_token`, `eos_token`, `bos_id`, `eos_ids` (sorted, without duplicates) and `add_bos`:
    whether the tokenizer puts BOS before plain text, as the file's own post-processor then does.
    """

    tokenizer_json: bytes
    config: dict[str, Any]


@dataclass(frozen=True)
class LazyTensor:
    """A weight that is read when `load()` is called, and not kept afterwards.

    `name` is the weight's canonical state-dict name: tied weights are one object under several
    keys. `dtype` is the type that `load()` gives: the stored one ("bf16", "f16", "f32", ...), or
    "f32" for a weight that is dequantized. `shape` is the model's own, not the file's. `groups` are
    the integers that a quantized one is stored in.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], Array]
    groups: StoredGroups | None = None


@dataclass(frozen=True)
class ModelSource:
    """A model that was opened but not read.

    `config` is transformers' config (no remote code). `weights` maps every name of the transformers
    module's state dict to its tensor, or is None for a config without weights. `dtype` is the
    model's own (a quantized GGUF counts as bf16). `notes` says everything that was ignored, assumed
    or converted. `stored` is the type of the matrices where a plan is made of a quantized model.
    `no_phases` says why the model is taken as one function, where it is.
    """

    name: str
    family: str
    config: Any
    weights: Mapping[str, LazyTensor] | None
    tokenizer: TokenizerFiles | None
    dtype: str
    notes: tuple[str, ...]
    stored: str | None = None
    no_phases: Reason | None = None
