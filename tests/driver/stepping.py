"""Run a bundle the way a server would: a prompt, then tokens one by one or in chunks."""

from __future__ import annotations

import numpy as np

from hetc.ir.types import Array
from hetc.runtime import Bundle


def largest_error(bundle: Bundle, ids: Array, expected: Array, prompt: int, chunk: int) -> float:
    """The largest difference from `expected` [B,S,V] when the first `prompt` of `ids` [B,S] are
    prefilled and the others decoded `chunk` at a time."""
    logits, state = bundle.prefill(ids[:, :prompt])
    worst = difference(logits, expected[:, prompt - 1 : prompt])
    for start in range(prompt, ids.shape[1], chunk):
        end = min(start + chunk, ids.shape[1])
        logits, state = bundle.decode(ids[:, start:end], state)
        worst = max(worst, difference(logits, expected[:, start:end]))
    return worst


def difference(found: Array, expected: Array) -> float:
    assert found.shape == expected.shape
    return float(np.max(np.abs(found - expected)))
