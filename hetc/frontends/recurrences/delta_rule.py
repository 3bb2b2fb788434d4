"""Delta rules: gated delta nets (Yang et al. 2024), and Kimi's with a decay for every channel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hetc.frontends.recurrences.replacement import Arguments, replaces
from hetc.frontends.recurrences.torch_ops import linear_attention

_EPSILON = 1e-6


def _trials(file: Any, *, key_heads: int, by_channel: bool) -> Iterator[Arguments]:
    import torch

    rand = torch.randn
    for length in (1, 7):
        q, k = rand(2, length, key_heads, 5), rand(2, length, key_heads, 5)
        v, beta = rand(2, length, 4, 3), torch.rand(2, length, 4)
        g = -torch.rand(2, length, 4, 5) if by_channel else -torch.rand(2, length, 4)
        given = {"g": g, "beta": beta, "use_qk_l2norm_in_kernel": True}
        state = {"initial_state": rand(2, 4, 5, 3), "output_final_state": True}
        yield (q, k, v), {**given, **state}
        yield (q, k * 0.3, v), {**given, "use_qk_l2norm_in_kernel": False}


def _delta_trials(file: Any) -> Iterator[Arguments]:
    return _trials(file, key_heads=2, by_channel=False)


def _kimi_trials(file: Any) -> Iterator[Arguments]:
    return _trials(file, key_heads=4, by_channel=True)


@replaces("torch_chunk_gated_delta_rule", trials=_delta_trials)
@replaces("chunk_kimi_delta_attention", trials=_kimi_trials)
def chunk_gated_delta_rule(
    query: Any,
    key: Any,
    value: Any,
    g: Any,
    beta: Any,
    chunk_size: int = 64,
    initial_state: Any = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    **kwargs: Any,
) -> Any:
    """`query, key [B,S,G,N]`, `value [B,S,H,P]`, `g [B,S,H]` or `[B,S,H,N]` (the logarithm of the
    decay), `beta [B,S,H]` -> `[B,S,H,P]`, and the last state `[B,H,N,P]` or None."""
    import torch

    q, k, v, rate = (x.float().transpose(1, 2) for x in (query, key, value, torch.exp(g.float())))
    if use_qk_l2norm_in_kernel:
        q, k = (x * torch.rsqrt((x * x).sum(-1, keepdim=True) + _EPSILON) for x in (q, k))
    y, last = linear_attention(
        q * q.shape[-1] ** -0.5,
        k,
        v,
        rate[..., None] if rate.dim() == 3 else rate,
        beta.float().transpose(1, 2)[..., None],
        None if initial_state is None else initial_state.float(),
    )
    return y.transpose(1, 2).contiguous().to(query.dtype), last if output_final_state else None
