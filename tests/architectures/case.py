"""What a causal-LM type of transformers is expected to do; told without loading anything heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["works", "not causal", "torch cannot export it", "refused"]

# What most configurations call their sizes; those of a case come on top.
SMALL: Mapping[str, int] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@dataclass(frozen=True)
class Case:
    """One type: the fields of a tiny configuration, and what becomes of the model.

    `config` comes on top of SMALL; None in it removes a field of SMALL. `context` bounds the
    sequence, as the option of a compile does. Where the model does not work, `says` stands in
    hetc's error, and `because` tells a reader of docs/coverage.md why, and what would help.
    `covers` names what the type has that others do not. A type that is not `alone` gives no logits
    for tokens in transformers either: it lacks a package, or reads what another model makes.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    outcome: Outcome = "works"
    says: str = ""
    because: str = ""
    covers: str = ""
    context: int | None = None
    alone: bool = True
