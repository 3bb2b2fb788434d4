"""Indexers of sparse attention: up to the length at which they select every key, they hide none.

An indexer that takes the `min(k, S)` best keys is exported as it is, and what its selection does
falls away where `S <= k` (`hetc.passes.simplify`). One that selects blocks of keys counts them with
divisions of the length, which torch.export cannot follow.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hetc.frontends.sources.replacement import Replacement


def _select(
    self: Any, hidden_states: Any, position_embeddings: Any, past_key_values: Any, position_ids: Any
) -> Any:
    """What stands for "every block" in `_block_mask`, which does not read it."""
    return position_ids


def _every_block(module: Any) -> int:
    """The longest sequence of which all blocks are selected."""
    return int(module.topk_blocks * module.block_size)


def _block_mask(
    self: Any,
    block_indices: Any,
    attention_mask: Any,
    key_length: Any,
    dtype: Any,
    device: Any,
    position_ids: Any,
) -> Any:
    """The mask without a selection, as the addend that the selection would be part of."""
    import torch

    if attention_mask is None:
        keys = torch.arange(key_length, device=device)
        visible = keys[None, None, None, :] <= position_ids[:, None, :, None]
    elif attention_mask.dtype == torch.bool:
        visible = attention_mask
    else:
        visible = attention_mask == 0
    shown = torch.zeros(visible.shape, dtype=dtype, device=device)
    return shown.masked_fill(~visible, torch.finfo(dtype).min)


def _build(cls: Any) -> Any:
    index = {"index_n_heads": 2, "index_head_dim": 4, "index_block_size": 4, "index_topk_blocks": 3}
    sizes = {"hidden_size": 6, "num_attention_heads": 4, "rms_norm_eps": 1e-6}
    return cls(SimpleNamespace(**index, **sizes, index_local_blocks=1), 0)


def _run(module: Any) -> Any:
    """The masks that come of a selection, for each kind of mask that goes in."""
    import torch

    torch.manual_seed(1)
    made = []
    for length in (3, 8, 11):
        x, positions = torch.randn(2, length, 6), torch.arange(length).expand(2, -1)
        angles = positions[..., None] * torch.rand(4)
        causal = torch.ones(length, length).tril().bool().expand(2, 1, -1, -1)
        low = torch.finfo(torch.float32).min
        addend = torch.zeros(causal.shape).masked_fill(~causal, low)
        chosen = module(x, (angles.cos(), angles.sin()), None, positions)
        for mask in (None, causal, addend):
            built = module.build_block_mask(
                chosen, mask, length, torch.float32, torch.device("cpu"), positions
            )
            heads = module.config.num_attention_heads
            made.append(built.expand(-1, heads, -1, -1).flatten())
    return torch.cat(made)


INDEXERS: dict[str, Replacement] = {
    "MiniMaxM3VLIndexer": Replacement(
        {"forward": _select, "build_block_mask": _block_mask}, _build, _run, _every_block
    ),
}
