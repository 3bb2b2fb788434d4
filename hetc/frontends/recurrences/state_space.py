"""State spaces: the recurrences of Mamba (Gu & Dao 2023) and Mamba-2 (Dao & Gu 2024)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from hetc.frontends.recurrences.replacement import Arguments, replaces
from hetc.frontends.recurrences.torch_ops import linear_attention


def _time_steps(dt: Any, bias: Any, softplus: bool) -> Any:
    import torch

    dt = dt if bias is None else dt + bias.to(dt.dtype)
    return torch.nn.functional.softplus(dt) if softplus else dt


def _mamba2_trials(file: Any) -> Iterator[Arguments]:
    import torch

    rand = torch.randn
    for length, groups in ((1, 1), (7, 2)):
        x, dt, a = rand(2, length, 4, 3), rand(2, length, 4), -torch.rand(4)
        b, c = rand(2, length, groups, 5), rand(2, length, groups, 5)
        yield (
            (x, dt, a, b, c, 4),
            {
                "D": rand(4),
                "dt_bias": rand(4),
                "dt_softplus": True,
                "dt_limit": (0.1, 2.0),
                "initial_states": rand(2, 4, 3, 5),
                "return_final_states": True,
            },
        )
        yield (x, dt.abs(), a, b, c, 4), {}


@replaces("mamba2_chunk_scan", trials=_mamba2_trials)
def mamba2_chunk_scan(
    hidden_states: Any,
    dt: Any,
    A: Any,
    B: Any,
    C: Any,
    chunk_size: int,
    D: Any = None,
    dt_bias: Any = None,
    initial_states: Any = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, math.inf),
    return_final_states: bool = False,
    **kwargs: Any,
) -> Any:
    """Mamba-2: `hidden_states [B,S,H,P]`, `dt [B,S,H]`, `A [H]`, `B, C [B,S,G,N]` -> `[B,S,H,P]`.

    With M[t] = exp(dt A) M[t-1] + B (dt x) and y = C M; `D` adds D x.
    """
    import torch

    steps = torch.clamp(_time_steps(dt, dt_bias, dt_softplus), *dt_limit).float()
    x = hidden_states.float()
    decay = torch.exp(A.float() * steps)
    initial = None if initial_states is None else initial_states.float().transpose(2, 3)
    y, last = linear_attention(
        C.float().transpose(1, 2),
        B.float().transpose(1, 2),
        (x * steps[..., None]).transpose(1, 2),
        decay.transpose(1, 2)[..., None],
        None,
        initial,
    )
    # Callers look at the heads as one axis.
    y = y.transpose(1, 2).contiguous()
    if D is not None:
        y = y + D[..., None] * x
    return (y, last.transpose(2, 3)) if return_final_states else y


def _mamba_trials(file: Any) -> Iterator[Arguments]:
    import torch

    rand = torch.randn
    for length in (1, 6):
        x, dt, a = rand(2, 4, length), rand(2, 4, length), -torch.rand(4, 3)
        b, c = rand(2, 3, length), rand(2, 3, length)
        given = {"D": rand(4), "z": rand(2, 4, length), "delta_bias": rand(4)}
        yield (x, dt, a, b, c), {**given, "delta_softplus": True, "return_last_state": True}
        yield (x, dt.abs(), a, b, c), {}


@replaces("mamba_selective_scan", trials=_mamba_trials)
def mamba_selective_scan(
    hidden_states: Any,
    dt: Any,
    A: Any,
    B: Any,
    C: Any,
    D: Any = None,
    z: Any = None,
    delta_bias: Any = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    use_mambapy: bool = False,
    use_associative_scan: bool = False,
    **kwargs: Any,
) -> Any:
    """Mamba: `hidden_states, dt [B,D,S]`, `A [D,N]`, `B, C [B,N,S]` -> `[B,D,S]`.

    With h[t] = exp(dt A) h[t-1] + dt x B and y = C h for every channel; `D` adds D x, `z` gates.
    """
    import torch

    bias = None if delta_bias is None else delta_bias[..., None]
    steps = _time_steps(dt, bias, delta_softplus).float()
    y, last = linear_attention(
        C.float().transpose(1, 2)[:, None],
        B.float().transpose(1, 2)[:, None],
        (steps * hidden_states.float())[..., None],
        torch.exp(A.float()[:, None, :] * steps[..., None]),
    )
    y = y[..., 0].to(hidden_states.dtype)
    if D is not None:
        y = y + hidden_states * D[None, :, None]
    if z is not None:
        y = y * torch.nn.functional.silu(z)
    return (y, last[..., 0]) if return_last_state else y
