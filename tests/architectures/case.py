"""What a causal-LM type of transformers is expected to do; told without loading anything heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["works", "not causal", "torch cannot export it", "refused"]


@dataclass(frozen=True)
class Case:
    """One type: the fields of a tiny configuration, and what becomes of the model.

    `config` comes on top of SMALL; None in it removes a field of SMALL. `context` bounds the
    sequence, as the option of a compile does. Where the model does not work, `says` stands in
    hetc's error, and `because` tells a reader of docs/coverage.md why, and what would help.
    `covers` names what the type has that others do not.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    outcome: Outcome = "works"
    says: str = ""
    because: str = ""
    covers: str = ""
    context: int | None = None
