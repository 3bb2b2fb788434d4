"""Decoders with experts."""

from __future__ import annotations

from typing import Any

from tests.architectures.case import SMALL, Case

_LOCAL, _GLOBAL, _INDEXED = "sliding_attention", "full_attention", "indexed_attention"
_WINDOWS = {"sliding_window": 8, "layer_types": [_LOCAL, _GLOBAL]}
_DENSE_FIRST = {"mlp_layer_types": ["dense", "sparse"]}
# Names differ; every model has 8 experts and takes 2 of them.
_ROUTED = {"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_NUMBERED = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_LOCALS = {"num_local_experts": 8, "num_experts_per_tok": 2}
_SHARED = {"n_shared_experts": 1}
# Two groups of four experts, of which one is looked into.
_GROUPS = {"n_group": 2, "topk_group": 1}
_LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "head_dim": 8,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}
_HALF_ROTARY = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
_INDEXER = {"index_topk": 32, "index_head_dim": 16, "index_n_heads": 2}

CASES: dict[str, Case] = {
    "afmoe": Case(
        {
            **_NUMBERED,
            **_WINDOWS,
            "head_dim": 8,
            "num_dense_layers": 1,
            "num_shared_experts": 1,
            "mup_enabled": True,
        },
        covers="sliding and gated attention, sigmoid routing with a bias, a shared expert",
    ),
    "aria_text": Case(
        {"moe_num_experts": 8, "moe_topk": 2, "head_dim": 8}, covers="experts with turned matrices"
    ),
    "axk1": Case(
        {**_LATENT, **_ROUTED, **_SHARED, **_GROUPS, **_DENSE_FIRST},
        covers="MLA, sigmoid routing limited to groups",
    ),
    "axk2": Case(
        {**_LATENT, **_ROUTED, **_SHARED, **_DENSE_FIRST, **_INDEXER, "gated_norm_rank": 4},
        covers="MLA with a sparse indexer, gated norms",
    ),
    "cohere2_moe": Case(
        {**_WINDOWS, "head_dim": 8, "num_experts": 8, "num_shared_experts": 1},
        covers="parallel blocks, sliding windows, averaged shared experts",
    ),
    "dbrx": Case(
        {
            "d_model": 32,
            "n_heads": 4,
            "n_layers": 2,
            "max_seq_len": 64,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 1.0, "rope_theta": 10000.0},
            "ffn_config": {
                "hidden_size": 32,
                "ffn_hidden_size": 48,
                "moe_num_experts": 8,
                "moe_top_k": 2,
            },
            "hidden_size": None,
            "num_hidden_layers": None,
            "num_attention_heads": None,
            "num_key_value_heads": None,
            "max_position_embeddings": None,
            "intermediate_size": None,
        },
        covers="experts in a loop over those that were hit; clipped queries, keys and values",
    ),
    "deepseek_v2": Case(
        {
            **_LATENT,
            **_ROUTED,
            **_SHARED,
            **_GROUPS,
            "topk_method": "group_limited_greedy",
            "first_k_dense_replace": 1,
        },
        covers="MLA with complex rotary positions, routing limited to groups",
    ),
    "deepseek_v3": Case(
        {**_LATENT, **_ROUTED, **_SHARED, **_GROUPS, "first_k_dense_replace": 1},
        covers="MLA, sigmoid routing with a bias, limited to groups",
    ),
    "deepseek_v32": Case(
        {**_LATENT, **_ROUTED, **_SHARED, **_GROUPS, **_INDEXER, "first_k_dense_replace": 1},
        covers="MLA with a sparse indexer",
    ),
    "deepseek_v4": Case(
        {
            **_ROUTED,
            **_SHARED,
            "num_hidden_layers": 4,
            "head_dim": 16,
            "num_key_value_heads": 1,
            "q_lora_rank": 16,
            "o_groups": 2,
            "o_lora_rank": 8,
            "hc_mult": 2,
            "sliding_window": 8,
            "index_topk": 16,
            "index_head_dim": 16,
            "index_n_heads": 2,
            "compress_rates": {
                "compressed_sparse_attention": 4,
                "heavily_compressed_attention": 8,
            },
            "layer_types": [
                _LOCAL,
                "heavily_compressed_attention",
                "compressed_sparse_attention",
                _LOCAL,
            ],
            "mlp_layer_types": ["hash_moe", "moe", "moe", "moe"],
            "intermediate_size": None,
        },
        outcome="torch cannot export it",
        says="torch.export cannot follow",
        because=(
            "Compressed attention pools closed windows of m tokens into one key, so that it has S "
            "// m keys beside the S of a sliding window: torch specializes the number of windows. "
            "An op for pooled keys, with the open window as state, would help."
        ),
        covers=(
            "keys compressed by windows, hash routing, hyper-connections with Sinkhorn's iteration"
        ),
    ),
    "dots1": Case(
        {**_ROUTED, **_SHARED, **_WINDOWS, **_GROUPS, "first_k_dense_replace": 1},
        covers="sliding windows, sigmoid routing limited to groups",
    ),
    "dots3_note": Case(
        {
            **dict.fromkeys(SMALL),
            "text_config": {
                **SMALL,
                **_LATENT,
                **_ROUTED,
                **_SHARED,
                **_DENSE_FIRST,
                **_INDEXER,
                "num_hidden_layers": 3,
                "layer_types": [_INDEXED, _LOCAL, _INDEXED],
                "mlp_layer_types": ["dense", "sparse", "sparse"],
                "sliding_window": 8,
                "n_group": 1,
                "topk_group": 1,
                "shared_experts_intermediate_size": 16,
                "head_dim": 16,
                "rope_parameters": {
                    _INDEXED: _HALF_ROTARY,
                    _LOCAL: _HALF_ROTARY,
                },
                "per_layer_config": {
                    "01": {"num_attention_heads": 2, "num_key_value_heads": 2, "kv_lora_rank": 8}
                },
            },
            "vision_config": {
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "mlp_layer_types": ["dense"],
                "adapter_in_dim": 16,
                "adapter_out_dim": 32,
                "per_layer_config": {},
            },
            "audio_config": {
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "head_dim": 8,
                "downsample_hidden_size": 16,
                "adapter_input_size": 16,
                "adapter_out_dim": 32,
            },
        },
        covers="MLA of two sizes, sparse indexers beside sliding windows",
    ),
    "ernie4_5_moe": Case(
        {
            "moe_num_experts": 8,
            "moe_k": 2,
            "moe_intermediate_size": 16,
            "moe_num_shared_experts": 1,
            "moe_layer_start_index": 1,
            "moe_layer_end_index": 1,
        },
        covers="routing with a bias, a shared expert",
    ),
    "exaone_moe": Case(
        {
            **_NUMBERED,
            **_WINDOWS,
            **_GROUPS,
            **_DENSE_FIRST,
            "head_dim": 8,
            "num_shared_experts": 1,
        },
        covers="sliding windows without positions elsewhere, routing limited to groups",
    ),
    "flex_olmo": Case(
        {"num_experts": 8, "num_experts_per_tok": 2}, covers="QK norms over all heads"
    ),
    "flint": Case(
        {
            **_NUMBERED,
            **_WINDOWS,
            "head_dim": 8,
            "shared_expert_intermediate_size": 16,
            "mlp_only_layers": [0],
        },
        covers="sliding windows, a gated shared expert, dense layers by list",
    ),
    "glm4_moe": Case(
        {
            **_ROUTED,
            **_SHARED,
            **_GROUPS,
            "head_dim": 8,
            "first_k_dense_replace": 1,
            "use_qk_norm": True,
        },
        covers="partial rotary positions, QK norms, routing limited to groups",
    ),
    "glm4_moe_lite": Case(
        {**_LATENT, **_ROUTED, **_SHARED, **_GROUPS, **_DENSE_FIRST},
        covers="MLA, routing limited to groups",
    ),
    "glm_moe_dsa": Case(
        {**_LATENT, **_ROUTED, **_SHARED, **_GROUPS, **_DENSE_FIRST, **_INDEXER},
        covers="MLA with a sparse indexer",
    ),
    "gpt_oss": Case(
        {
            **_LOCALS,
            **_WINDOWS,
            "head_dim": 8,
            "rope_parameters": {
                "rope_type": "yarn",
                "factor": 4.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "truncate": False,
                "original_max_position_embeddings": 16,
                "rope_theta": 10000.0,
            },
        },
        covers="sinks, sliding windows, YaRN, clipped gated experts with biases",
    ),
    "granitemoe": Case(
        {**_LOCALS, "embedding_multiplier": 2.0, "logits_scaling": 3.0},
        covers="multipliers of embeddings, residuals and logits",
    ),
    "granitemoe_swa": Case(
        {**_LOCALS, **_WINDOWS, "shared_intermediate_size": 16},
        covers="sinks as a gate of the attention's output, sliding windows",
    ),
    "granitemoeshared": Case({**_LOCALS, "shared_intermediate_size": 16}, covers="a shared expert"),
    "hunyuan_v1_moe": Case(
        {"num_experts": 8, "moe_topk": 2, "head_dim": 8},
        covers="QK norms after rotary positions, a shared expert",
    ),
    "hy_v3": Case(
        {**_NUMBERED, **_DENSE_FIRST, "head_dim": 8, "num_shared_experts": 1},
        covers="sigmoid routing with a bias, experts combined in f32",
    ),
    "hy_v4": Case(
        {
            **_LATENT,
            **_ROUTED,
            **_SHARED,
            **_DENSE_FIRST,
            **_INDEXER,
            "indexer_types": ["full", "shared"],
            "hc_mult": 2,
        },
        covers="hyper-connections, an indexer shared by layers, learned sinks",
    ),
    "jetmoe": Case(
        {**_LOCALS, "kv_channels": 8, "num_attention_heads": 4},
        covers="experts of queries and outputs of attention, tokens sorted by expert",
    ),
    "laguna": Case(
        {
            **_NUMBERED,
            **_WINDOWS,
            **_DENSE_FIRST,
            "head_dim": 8,
            "shared_expert_intermediate_size": 16,
            "num_attention_heads_per_layer": [4, 2],
            "moe_router_logit_softcapping": 5.0,
        },
        covers="gated attention with a number of heads a layer, softcapped routing",
    ),
    "llama4_text": Case(
        {
            "num_hidden_layers": 4,
            "intermediate_size_mlp": 48,
            "head_dim": 8,
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "interleave_moe_layer_step": 2,
            "attention_chunk_size": 8,
            "floor_scale": 4,
        },
        covers="chunked attention, temperature by position, experts for every token, top 1",
    ),
    "longcat_flash": Case(
        {
            **_LATENT,
            "num_layers": 2,
            "num_hidden_layers": None,
            "intermediate_size": None,
            "ffn_hidden_size": 48,
            "n_routed_experts": 4,
            "zero_expert_num": 2,
            "moe_topk": 3,
            "expert_ffn_hidden_size": 16,
        },
        covers="two attentions a layer, experts that give a token back",
    ),
    "mimo_v2_flash": Case(
        {**_ROUTED, **_WINDOWS, **_GROUPS, **_DENSE_FIRST, "head_dim": 16, "v_head_dim": 8},
        covers="sinks, sliding windows, values of another width than keys",
    ),
    "minimax_m2": Case(
        {**_LOCALS, "head_dim": 8}, covers="QK norms over all heads, partial rotary positions"
    ),
    "minimax_m3_vl_text": Case(
        {
            **_LOCALS,
            "head_dim": 8,
            "rotary_dim": 4,
            "dense_intermediate_size": 48,
            "shared_intermediate_size": 16,
            **_DENSE_FIRST,
            "layer_types": [_GLOBAL, "minimax_m3_sparse"],
            "index_n_heads": 2,
            "index_head_dim": 8,
            "index_block_size": 8,
            "index_topk_blocks": 4,
        },
        covers="an indexer of blocks of keys, clipped gates",
    ),
    "mixtral": Case(
        {**_LOCALS, "sliding_window": 8}, covers="softmax routing of the best two, a sliding window"
    ),
    "olmoe": Case(
        {"num_experts": 8, "num_experts_per_tok": 2, "clip_qkv": 1.0},
        covers="QK norms over all heads, clipped queries, keys and values",
    ),
    "phimoe": Case(
        {**_LOCALS, "attention_bias": True, "lm_head_bias": True},
        covers="sparse mixing of the best two in turn, biases",
    ),
    "qwen2_moe": Case(
        {
            **_NUMBERED,
            "shared_expert_intermediate_size": 16,
            "mlp_only_layers": [0],
            "use_sliding_window": True,
            **_WINDOWS,
        },
        covers="a gated shared expert, sliding windows",
    ),
    "qwen3_moe": Case(
        {**_LOCALS, "moe_intermediate_size": 16, "head_dim": 8, "norm_topk_prob": True},
        covers="QK norms, weights of the chosen experts renormalized",
    ),
    "solar_open": Case(
        {**_ROUTED, **_SHARED, **_GROUPS, "head_dim": 8},
        covers="sigmoid routing limited to groups, a shared expert",
    ),
}
