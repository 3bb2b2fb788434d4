"""Tiny random transformers models and their exports, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.export import Dim, ExportedProgram

from hetc.frontends.torch_export import ImportedGraph
from hetc.ir.interpret import interpret
from hetc.ir.types import Array

SMALL = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_SLIDING = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
_MLA = {
    "num_key_value_heads": 4,
    "head_dim": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 32,
    "n_shared_experts": 1,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"head_dim": 16},
    "mistral": {"head_dim": 16, "sliding_window": 8},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "gemma2": {"head_dim": 16, "query_pre_attn_scalar": 16, **_SLIDING},
    "gemma3_text": {"head_dim": 16, "query_pre_attn_scalar": 16, **_SLIDING},
    "phi3": {},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "gpt_neox": {},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64},
    "falcon": {"multi_query": True, "alibi": False, "new_decoder_architecture": False},
    "bloom": {"n_head": 4, "n_layer": 2},
    "mixtral": {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {
        "head_dim": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
    },
    "gpt_oss": {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, **_SLIDING},
    "deepseek_v3": _MLA,
    "deepseek_v2": _MLA,
    "llama4_text": {
        "head_dim": 16,
        "num_local_experts": 4,
        "num_experts_per_tok": 1,
        "intermediate_size_mlp": 96,
        "attention_chunk_size": 8,
        "no_rope_layers": [1, 0],
    },
    "lfm2": {"layer_types": ["conv", "full_attention"], "conv_L_cache": 3, "block_ff_dim": 96},
    "bert": {"is_decoder": False},
}


class Forward(torch.nn.Module):
    """A transformers model as `forward(input_ids) -> logits`."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=input_ids, use_cache=False).logits
        return logits


def tiny(family: str, attention: str = "sdpa", experts: str = "batched_mm") -> torch.nn.Module:
    """A model of two layers with random weights of a size at which attention is not flat."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**SMALL, **CONFIGS[family], "initializer_range": 0.1})
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    if "experts" in str(model).lower():
        model.set_experts_implementation(experts)
    return Forward(model).eval()


def axes(shortest: int = 1) -> dict[int, Any]:
    """Dynamic batch and sequence of one input."""
    return {0: Dim("batch", min=1, max=64), 1: Dim("seq", min=shortest, max=200)}


def export(module: torch.nn.Module, shortest: int = 1) -> ExportedProgram:
    """The exported program of a module that takes tokens."""
    with torch.no_grad():
        return torch.export.export(module, (ids(2, 12),), dynamic_shapes=(axes(shortest),))


def ids(rows: int, length: int) -> torch.Tensor:
    """Random tokens."""
    return torch.randint(
        3, 128, (rows, length), generator=torch.Generator().manual_seed(rows * length)
    )


def run(imported: ImportedGraph, tokens: torch.Tensor) -> Array:
    """The graph's logits by the reference interpreter."""
    (logits,) = interpret(
        imported.graph, [tokens.numpy()], lambda name: imported.weights[name].load()
    )
    return logits


def assert_same(imported: ImportedGraph, module: torch.nn.Module, tolerance: float = 1e-4) -> None:
    """The graph computes what the module does, at two sizes that were not exported."""
    for rows, length in ((1, 7), (3, 21)):
        tokens = ids(rows, length)
        with torch.no_grad():
            expected = module(tokens).numpy()
        found = run(imported, tokens)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
