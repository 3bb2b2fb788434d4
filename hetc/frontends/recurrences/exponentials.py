"""Sums of exponentials that decay, scaled so that they stay small: RWKV-4 (Peng et al. 2023), and
the mLSTM of xLSTM (Beck et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hetc.frontends.recurrences.replacement import Arguments, replaces
from hetc.frontends.recurrences.torch_ops import linear_attention, scan

# e to this power, times a few thousand tokens, is still far from what f32 holds.
_LARGEST_GATE = 40.0


def _rwkv_trials(file: Any) -> Iterator[Arguments]:
    import torch

    rand = torch.randn
    for length in (1, 7):
        given = rand(4), rand(4), rand(2, length, 4), rand(2, length, 4)
        yield given, {}
        state = [rand(2, 4), torch.rand(2, 4), rand(2, 4)]
        yield given, {"state": state, "return_state": True}


@replaces("rwkv_linear_attention", trials=_rwkv_trials)
def rwkv_linear_attention(
    time_decay: Any,
    time_first: Any,
    key: Any,
    value: Any,
    state: Any = None,
    return_state: bool = False,
) -> Any:
    """`time_decay, time_first [C]`, `key, value [B,S,C]` -> `[B,S,C]`: an average of all values so
    far, with weights exp(key) that decay, but for the present one, whose is exp(key + time_first).

    Sums are kept over exp(m), m the largest exponent so far, or 0 where that is larger.
    """
    import torch

    keys, values = key.float(), value.float()
    decay = -torch.exp(time_decay.float()).expand(keys.shape)
    above, below, most = (None, None, None) if state is None else (x.float() for x in state)

    def before(every: Any, first: Any) -> Any:
        """What there was before each token."""
        if first is None:
            return torch.nn.functional.pad(every, (0, 0, 1, -1))
        return torch.cat([first[:, None], every[:, :-1]], dim=1)

    largest, last_largest = scan(keys, decay, most, 1, maximum=True)
    largest_before = before(largest, most)
    kept, weight = torch.exp(largest_before + decay - largest), torch.exp(keys - largest)
    sums, last_sums = scan(weight * values, kept, above, 1)
    weights, last_weights = scan(weight, kept, below, 1)
    present = keys + time_first.float()
    scale = torch.maximum(largest_before, present)
    past, now = torch.exp(largest_before - scale), torch.exp(present - scale)
    y = past * before(sums, above) + now * values
    y = y / (past * before(weights, below) + now)
    kept_state = [last_sums, last_weights, last_largest]
    return y.to(key.dtype), kept_state if return_state or state is not None else None


def _mlstm_trials(file: Any) -> Iterator[Arguments]:
    import torch

    rand = torch.randn
    module = file.xLSTMBackend(file.xLSTMConfig(hidden_size=16, num_heads=2, chunk_size=4))
    for length in (1, 7):
        q, k, v = rand(2, 2, length, 4), rand(2, 2, length, 4), rand(2, 2, length, 3)
        gates = rand(2, 2, length), rand(2, 2, length)
        yield (module, q, k, v, *gates), {}
        state = rand(2, 2, 4, 3), rand(2, 2, 4), rand(2, 2, 1)
        yield (module, q, k, v, *gates, *state), {}


@replaces("xLSTMBackend.forward", trials=_mlstm_trials)
def mlstm(
    self: Any,
    query: Any,
    key: Any,
    value: Any,
    igate: Any,
    fgate: Any,
    c_initial: Any = None,
    n_initial: Any = None,
    m_initial: Any = None,
    return_last_states: bool | None = None,
    mode: Any = None,
) -> Any:
    """`query, key [B,H,S,N]`, `value [B,H,S,P]`, gates `[B,H,S]` -> `[B,H,S,P]` and the states.

    C[t] = sigmoid(f) C[t-1] + exp(i) k v and the same sum n without v; y = q C / max(|q n|, 1). The
    original divides all by exp(m), m a running maximum; gates are capped, so that only its epsilon,
    which is added after that, needs m.
    """
    import torch

    cap = self.config.gate_soft_cap
    if cap is None or cap > _LARGEST_GATE:
        raise ValueError(f"gate_soft_cap is {cap}: exponentials of gates may be too large for f32")
    forget, enter = torch.nn.functional.logsigmoid(fgate.float()), igate.float()
    initial = None
    if c_initial is not None:
        both = torch.cat([c_initial, n_initial[..., None]], dim=-1)
        initial = (both * torch.exp(m_initial)[..., None]).float()
    most = None if m_initial is None else m_initial[..., 0].float()
    most, last_most = scan(enter, forget, most, 2, maximum=True)
    values = torch.cat([value.float(), torch.ones_like(value[..., :1]).float()], dim=-1)
    keys = key.float() * torch.exp(enter)[..., None]
    scaled = query.float() * query.shape[-1] ** -0.5
    sums, last = linear_attention(scaled, keys, values, torch.exp(forget)[..., None], None, initial)
    y, below = sums[..., :-1], sums[..., -1:]
    floor = torch.clamp(below.abs(), min=1.0) + self.config.eps * torch.exp(most)[..., None]
    y = (y / floor).to(query.dtype)
    mode = self.config.mode if mode is None else mode
    gives_states = (
        self.config.return_last_states if return_last_states is None else return_last_states
    )
    if "inference" not in mode and not gives_states:
        return y
    last = last * torch.exp(-last_most)[..., None, None]
    return y, (last[..., :-1], last[..., -1], last_most[..., None])
