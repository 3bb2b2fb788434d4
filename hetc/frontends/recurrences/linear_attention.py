"""Linear attention without a delta rule: lightning attention (Qin et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hetc.frontends.recurrences.replacement import Arguments, replaces
from hetc.frontends.recurrences.torch_ops import linear_attention


def _lightning_trials(file: Any) -> Iterator[Arguments]:
    import torch

    config = file.MiniMaxConfig(
        hidden_size=8,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=4,
        num_hidden_layers=2,
        layer_types=["linear_attention"] * 2,
        block_size=4,
    )
    module = file.MiniMaxLightningAttention(config, 0)
    for length in (1, 7):
        yield (module, torch.randn(2, length, 8), (None, None), None), {}


@replaces("MiniMaxLightningAttention.forward", trials=_lightning_trials)
def lightning_attention(
    self: Any,
    hidden_states: Any,
    position_embeddings: Any,
    attention_mask: Any,
    past_key_values: Any = None,
    **kwargs: Any,
) -> Any:
    """`hidden_states [B,S,H*D]` -> the same, and the last state `[B,H,D,D]`.

    With M[t] = exp(-slope) M[t-1] + k v and y = q M for every head.
    """
    import torch

    batch, length, _ = hidden_states.shape
    mixed = self.act_fn(self.qkv_proj(hidden_states))
    if attention_mask is not None:
        mixed = (mixed * attention_mask[:, :, None]).to(mixed.dtype)
    heads = self.num_attention_heads
    mixed = mixed.reshape(batch, length, heads, 3 * self.head_dim).transpose(1, 2)
    query, key, value = (x.float() for x in torch.split(mixed, self.head_dim, dim=3))
    cache = past_key_values
    before = None if cache is None else cache.get_linear_cache(self.layer_idx)
    decay = torch.exp(-self.slope_rate.float()).expand(batch, heads, length, 1)
    initial = None if before is None else before.float()
    y, last = linear_attention(query, key, value, decay, None, initial)
    last = last.to(hidden_states.dtype)
    y = y.transpose(1, 2).reshape(batch, length, heads * self.head_dim).to(hidden_states.dtype)
    y = torch.sigmoid(self.output_gate(hidden_states)) * self.norm(y)
    if cache is not None:
        cache.set_linear_cache(self.layer_idx, last)
    return self.out_proj(y), last
