"""Tiny random decoders of many families, and what their logits should be.

Weights are large enough for attention to be far from flat; windows are short enough to be passed.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.export import Dim, ExportedProgram
from transformers import AutoConfig, AutoModelForCausalLM

from hetc.ir.types import Array

VOCABULARY = 128
CONTEXT = 64
WINDOW = 8
_SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": WINDOW}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_LOCAL, _GLOBAL = "sliding_attention", "full_attention"
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": WINDOW},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "gemma2": {**_GEMMA, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 10.0},
    "gemma3_text": {**_GEMMA, "num_hidden_layers": 3, "layer_types": [_LOCAL, _LOCAL, _GLOBAL]},
    "phi3": {"sliding_window": WINDOW},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT},
    "gpt_neox": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "falcon": {"multi_query": True, "new_decoder_architecture": False},
    "bloom": {"n_layer": 2, "n_head": 4},
    "mixtral": {**_EXPERTS, "sliding_window": None},
    "qwen3_moe": {
        "head_dim": 8,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
    },
    "gpt_oss": {
        **_EXPERTS,
        "head_dim": 8,
        "sliding_window": WINDOW,
        "layer_types": [_LOCAL, _GLOBAL],
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
    "lfm2": {"num_hidden_layers": 4, "layer_types": ["conv", _GLOBAL, "conv", _GLOBAL]},
    "deepseek_v3": {
        "num_key_value_heads": 4,
        "head_dim": 8,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "n_shared_experts": 1,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
    },
}


def build(family: str, **changes: Any) -> Any:
    """A random model of this family, f32, in evaluation mode."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**_SMALL, **FAMILIES.get(family, {}), **changes})
    config.use_cache = False
    return sharpened(AutoModelForCausalLM.from_config(config).float().eval())


def sharpened(model: Any) -> Any:
    """`model` with matrices of deviation 0.3 and every vector away from what it began as."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def save(model: Any, folder: Path) -> Path:
    """`model` as a Hugging Face directory without a tokenizer."""
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    return folder


def save_config(folder: Path, fields: dict[str, Any]) -> Path:
    """A directory with `config.json` alone."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(fields), "utf-8")
    return folder


class Forward(torch.nn.Module):
    """A transformers model as `forward(input_ids) -> logits`."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=input_ids, use_cache=False).logits
        return logits


def export(module: torch.nn.Module) -> ExportedProgram:
    """`module`, a function of tokens, exported with a dynamic batch and sequence."""
    axes = {0: Dim("batch", min=1, max=8), 1: Dim("seq", min=1, max=CONTEXT - 1)}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(module, (tokens(2, 12),), dynamic_shapes=(axes,), strict=False)


def tokens(rows: int, length: int) -> torch.Tensor:
    """Random token ids, the same for the same size."""
    seeded = torch.Generator().manual_seed(rows * 1000 + length)
    return torch.randint(3, VOCABULARY, (rows, length), generator=seeded)


def eager(model: Any, ids: torch.Tensor) -> Array:
    """The logits of transformers itself for `ids` [B,S], without a cache."""
    with torch.inference_mode():
        logits: Array = model(input_ids=ids, use_cache=False).logits.numpy()
    return logits
