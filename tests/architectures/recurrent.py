"""Recurrent and hybrid decoders, and those with convolutions."""

from __future__ import annotations

from typing import Any

from tests.architectures.case import Case

_LINEAR, _FULL, _SLIDING = "linear_attention", "full_attention", "sliding_attention"
# Mamba-2 inside other models: chunks shorter than the prompt, heads that share B and C.
_MAMBA2: dict[str, Any] = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_n_groups": 2,
    "mamba_d_state": 16,
    "mamba_chunk_size": 8,
}
_MAMBA: dict[str, Any] = {"state_size": 8, "intermediate_size": None}
_DELTA: dict[str, Any] = {
    "head_dim": 8,
    "num_hidden_layers": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "layer_types": [_FULL, _LINEAR],
}
_GRIDS: dict[str, Any] = {
    "head_dim": 16,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
        "mrope_section": [2, 1, 1],
    },
}
_EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_MLA: dict[str, Any] = {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}

_SHARED: dict[str, Any] = {
    # Small, because rounding grows here: a change of weights by 1e-7 moves logits by 1e-4.
    "hidden_size": 16,
    "num_key_value_heads": 4,
    "num_hidden_layers": 3,
    "layers_block_type": [_LINEAR, "hybrid", "hybrid"],
}

CASES: dict[str, Case] = {
    "bailing_hybrid": Case(
        {
            **_MLA,
            **_EXPERTS,
            "num_hidden_layers": 4,
            "layer_types": [_LINEAR, _FULL, _LINEAR, _LINEAR],
            "first_k_dense_replace": 1,
            "num_experts": 8,
            "num_local_experts": 8,
            "n_group": 2,
            "topk_group": 1,
            "head_dim": 8,
        },
    ),
    "bamba": Case(
        {**_MAMBA2, "num_hidden_layers": 3, "attn_layer_indices": [1]},
        covers="Mamba-2 and attention in turn",
    ),
    "falcon_h1": Case(
        {**_MAMBA2, "mamba_d_ssm": 64, "head_dim": 8},
        covers="Mamba-2 and attention side by side",
    ),
    "falcon_mamba": Case(_MAMBA, covers="Mamba with normed B, C and time steps"),
    "granitemoehybrid": Case(
        {
            **_MAMBA2,
            "layer_types": [_LINEAR, _FULL],
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "shared_intermediate_size": 24,
        },
        covers="Mamba-2, attention and experts",
    ),
    "jamba": Case(
        {
            "num_hidden_layers": 4,
            "attn_layer_period": 4,
            "attn_layer_offset": 2,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "mamba_d_state": 8,
        },
        covers="Mamba, attention and experts",
    ),
    "kimi_linear": Case(
        {
            **_MLA,
            "q_lora_rank": None,
            "num_hidden_layers": 4,
            "layer_types": [_LINEAR, _LINEAR, _FULL, _LINEAR],
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "linear_head_dim": 8,
            "linear_num_heads": 4,
        },
        covers="the delta rule with a decay for every channel, and MLA",
    ),
    "lfm2": Case({"num_hidden_layers": 4, "layer_types": ["conv", _FULL, "conv", _FULL]}),
    "lfm2_moe": Case(
        {
            **_EXPERTS,
            "num_hidden_layers": 4,
            "num_dense_layers": 1,
            "layer_types": ["conv", _FULL, "conv", _FULL],
        }
    ),
    "lfm3": Case(
        {
            "head_dim": 8,
            "num_hidden_layers": 4,
            "sliding_window": 8,
            "layer_types": ["conv", _SLIDING, "conv", _FULL],
        }
    ),
    "mamba": Case(_MAMBA, covers="Mamba: a state for every channel"),
    "mamba2": Case(
        {
            "num_heads": 8,
            "head_dim": 8,
            "state_size": 16,
            "n_groups": 2,
            "chunk_size": 8,
        },
        covers="Mamba-2: a matrix for every head",
    ),
    "minimax": Case(
        {
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "head_dim": 8,
            "block_size": 8,
            "layer_types": [_LINEAR, _FULL],
        },
        covers="linear attention with a decay for every head",
    ),
    "nemotron_h": Case(
        {
            "layers_block_type": [_LINEAR, "moe", _FULL, "mlp"],
            "num_hidden_layers": None,
            "head_dim": 8,
            "ssm_state_size": 16,
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "n_groups": 2,
            "chunk_size": 8,
            "n_routed_experts": 4,
            "moe_intermediate_size": 16,
            "moe_shared_expert_intermediate_size": 16,
        },
        covers="layers of one kind each: Mamba-2, experts, attention, MLP",
    ),
    "olmo_hybrid": Case(
        {**_DELTA, "head_dim": None, "linear_num_key_heads": 4},
        covers="the delta rule with beta up to 2",
    ),
    "qwen3_5_moe_text": Case(
        {
            **_DELTA,
            **_GRIDS,
            **_EXPERTS,
            "shared_expert_intermediate_size": 16,
            "linear_key_head_dim": 4,
            "linear_value_head_dim": 4,
        }
    ),
    "qwen3_5_text": Case({**_DELTA, **_GRIDS}),
    "qwen3_next": Case(
        {**_DELTA, **_EXPERTS, "shared_expert_intermediate_size": 16},
        covers="the gated delta rule, heads of values that share a key",
    ),
    "recurrent_gemma": Case(
        {
            "num_hidden_layers": 3,
            "attention_window_size": 8,
            "lru_width": 32,
        },
        covers="the real-gated linear recurrent unit",
    ),
    "rwkv": Case(
        {"context_length": 64, "max_position_embeddings": None},
        covers="RWKV-4: exponentials under a running maximum, and token shift",
    ),
    "xlstm": Case(
        {"num_heads": 4, "chunk_size": 8}, covers="mLSTM: a matrix, its norm, and a running maximum"
    ),
    "zamba": Case(
        {
            **_SHARED,
            "mamba_d_state": 4,
            "n_mamba_heads": 2,
        },
        covers="one attention for all hybrid layers",
    ),
    "zamba2": Case(
        {
            **_SHARED,
            "num_hidden_layers": 2,
            "layers_block_type": [_LINEAR, "hybrid"],
            "mamba_d_state": 8,
            "n_mamba_heads": 4,
            "mamba_ngroups": 2,
            "chunk_size": 8,
            "use_shared_attention_adapter": True,
            "adapter_rank": 4,
            "use_mem_rope": True,
        },
        covers="a shared attention with an adapter for each layer",
    ),
    "zaya": Case(
        {
            "head_dim": 8,
            "num_experts": 4,
            "num_experts_per_tok": 1,
            "moe_intermediate_size": 16,
            "router_hidden_size": 16,
        },
        outcome="refused",
        says="the export asserts Ne(",
        because="torch.export leaves a guard on the length, `S - 1 != 1`, where values of the "
        "token before are joined with those of the present one; a shift by padding would export",
    ),
}
