"""Decoders with experts whose attention is out of the ordinary: windows, relative positions, an
indexer."""

from __future__ import annotations

from tests.architectures.case import Case

_LOCAL, _GLOBAL = "sliding_attention", "full_attention"
_WINDOW = {"sliding_window": 8, "layer_types": [_LOCAL, _GLOBAL]}
_LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
}
_SMALL = {
    "vocab_size": 128,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_INKLING = {
    "head_dim": 8,
    "swa_head_dim": 8,
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 2,
    "sliding_window_size": 8,
    "layer_types": ["hybrid_sliding", "hybrid"],
    "d_rel": 4,
    "rel_extent": 6,
    "moe_intermediate_size": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
}
_QWEN4 = {
    **_EXPERTS,
    "shared_expert_intermediate_size": 16,
    "head_dim": 8,
    "layer_types": ["linear_attention", "indexed_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "hc_count": 2,
    "hc_lowrank": 8,
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 8,
    "indexer_compress_ratio": 2,
}
_NO_QWEN4 = "its indexer chooses keys in blocks, of which there are as many as the data says"

CASES: dict[str, Case] = {
    "beam": Case(
        {
            "head_dim": 8,
            **_EXPERTS,
            **_WINDOW,
            "mlp_layer_types": ["dense", "sparse"],
            "n_group": 2,
            "topk_group": 1,
        },
        covers="windows with rotary and full layers without, grouped routing, capped logits",
    ),
    "dots3_note_text": Case(
        {
            **_LATENT,
            "moe_intermediate_size": 16,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "shared_experts_intermediate_size": 16,
            "head_dim": 16,
            "mlp_layer_types": ["dense", "sparse"],
            "sliding_window": 8,
            "layer_types": [_LOCAL, "indexed_attention"],
            "index_topk": 64,
            "index_head_dim": 16,
            "index_n_heads": 2,
            "swa_num_attention_heads": 4,
            "swa_num_key_value_heads": 4,
            "swa_q_lora_rank": 16,
            "swa_kv_lora_rank": 16,
            "swa_head_dim": 16,
            "swa_qk_nope_head_dim": 8,
            "swa_v_head_dim": 8,
        },
        covers="latents, and an indexer up to the length at which it takes every key",
    ),
    "inkling_text": Case(
        {**_INKLING, "mlp_layer_types": ["dense", "sparse"]},
        covers="a bias by distance of each query, short convolutions, windows",
    ),
    "inkling2_text": Case(
        {**_INKLING, "unpadded_vocab_size": 128, "n_layers_per_attn_res_block": 1},
        outcome="torch cannot export it",
        says="satisfy the generated guard 4 <= L['input_ids'].size()[1]",
        because="windows of its dynamic convolution are unfolded, which torch exports for 4 tokens"
        " and more only; a padded form would help",
    ),
    "kolibri1": Case(
        {**_EXPERTS, **_WINDOW, "head_dim": 8, "shared_expert_intermediate_size": 16},
        covers="windows, a shared expert",
    ),
    "mellum": Case(
        {**_EXPERTS, **_WINDOW, "head_dim": 8, "num_mtp_layers": 1},
        covers="two rotary bases, windows, a prediction head that is left out",
    ),
    "qwen4_exp": Case(
        {"text_config": {**_SMALL, **_QWEN4}},
        outcome="torch cannot export it",
        says="Could not guard on data-dependent expression",
        because=_NO_QWEN4,
    ),
    "qwen4_exp_text": Case(
        _QWEN4,
        outcome="torch cannot export it",
        says="Could not guard on data-dependent expression",
        because=_NO_QWEN4,
    ),
}
