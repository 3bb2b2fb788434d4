"""Recurrences of every channel by itself: the real-gated linear recurrent unit (De et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hetc.frontends.recurrences.replacement import Arguments, replaces
from hetc.frontends.recurrences.torch_ops import scan


def _rglru_trials(file: Any) -> Iterator[Arguments]:
    import torch

    for length in (2, 7):
        x, gate = torch.randn(2, length, 4), torch.rand(2, length, 4)
        reset = torch.arange(length)[None, :, None].expand(2, -1, -1) == 0
        yield (None, x, gate, reset, None), {}
        yield (None, x, gate, ~reset & reset, torch.randn(2, 4)), {}


@replaces("RecurrentGemmaRglru._rnn_scan", trials=_rglru_trials)
def rglru_scan(
    self: Any,
    hidden_states: Any,
    recurrent_gate: Any,
    reset: Any,
    recurrent_states: Any,
    acc_dtype: Any = None,
) -> Any:
    """`hidden_states, recurrent_gate [B,S,C]`, `reset [B,S,1]` -> every h `[B,S,C]` and the last.

    With h[t] = gate h[t-1] + x, from the beginning where `reset`.
    """
    kept = (recurrent_gate * ~reset).float()
    initial = None if recurrent_states is None else recurrent_states.float()
    every, last = scan(hidden_states.float(), kept, initial, 1)
    return every.to(hidden_states.dtype), last
