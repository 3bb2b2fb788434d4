"""Decoders of dense layers."""

from __future__ import annotations

from tests.architectures.case import Case

_LOCAL, _GLOBAL = "sliding_attention", "full_attention"
# Shorter than the prompt, so that tokens leave it.
_WINDOW = {"sliding_window": 8, "layer_types": [_LOCAL, _GLOBAL]}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
}
_GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 8, "final_logit_softcapping": 10.0, **_WINDOW}
_LATENT = {
    "num_key_value_heads": 4,
    "head_dim": 8,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
}
_GRANITE = {
    "embedding_multiplier": 2.0,
    "attention_multiplier": 0.3,
    "residual_multiplier": 0.5,
    "logits_scaling": 3.0,
}
_BYTES = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}

CASES: dict[str, Case] = {
    "apertus": Case({"rope_parameters": _LLAMA3}, covers="xIELU, QK norms, llama3 rope"),
    "arcee": Case({"rope_parameters": _YARN}, covers="squared ReLU without a gate, YaRN"),
    "biogpt": Case(covers="learned positions"),
    "bitnet": Case(covers="norms inside attention and MLP, squared ReLU"),
    "bloom": Case(covers="ALiBi, a norm on embeddings"),
    "blt": Case(
        {
            "encoder_hash_byte_group_vocab": 64,
            "encoder_hash_byte_group_size": [3, 4],
            "patcher_config": _BYTES,
            "encoder_config": {**_BYTES, "hidden_size_global": 64},
            "decoder_config": {**_BYTES, "hidden_size_global": 64},
            "global_config": {**_BYTES, "hidden_size": 64},
        },
        outcome="torch cannot export it",
        says="Could not guard on data-dependent expression",
        because="bytes are joined to patches where a small model is unsure of the next one, so that"
        " sizes depend on data; patches of a fixed size would help",
    ),
    "codegen": Case({"rotary_dim": 4}, covers="parallel block, interleaved partial rotary"),
    "cohere": Case({"use_qk_norm": True}, covers="parallel block, QK norms by head, scaled logits"),
    "cohere2": Case(_WINDOW, covers="windows with rotary, full attention without"),
    "cohere_compass_text": Case(
        {
            **_WINDOW,
            "rope_parameters": {_LOCAL: {**_ROPE, "mrope_section": [2, 1, 1]}, _GLOBAL: None},
        },
        covers="parallel block, rotary on three axes in windows, none in full layers",
    ),
    "cpmant": Case(
        {"dim_head": 8, "dim_ff": 48},
        outcome="torch cannot export it",
        says="Constraints violated (S)",
        because="the mask is made from a Python list of positions, which fixes their number;"
        " torch.arange in its place would help",
    ),
    "ctrl": Case({"dff": 48, "n_positions": 64}, covers="sinusoidal positions"),
    "cwm": Case(
        {"head_dim": 8, "rope_parameters": _LLAMA3, **_WINDOW}, covers="windows, llama3 rope"
    ),
    "diffllama": Case(covers="differential attention"),
    "doge": Case(covers="a learned bias of each key in the mask"),
    "ernie4_5": Case({"use_bias": True}, covers="interleaved rotary, biases"),
    "exaone4": Case(
        _WINDOW, covers="QK norms, norms after each branch, full layers without rotary"
    ),
    "falcon": Case({"multi_query": True}, covers="multi-query, parallel block"),
    "gemma": Case({"head_dim": 8}, covers="scaled embeddings, tied head"),
    "gemma2": Case(
        {**_GEMMA, "attn_logit_softcapping": 5.0}, covers="softcaps on scores and logits, windows"
    ),
    "gemma3_text": Case(_GEMMA, covers="QK norms, two rotary bases, windows"),
    "gemma3n_text": Case(
        {
            **_GEMMA,
            "num_hidden_layers": 4,
            "layer_types": [_LOCAL, _GLOBAL, _LOCAL, _GLOBAL],
            "num_kv_shared_layers": 2,
            "vocab_size_per_layer_input": 128,
            "hidden_size_per_layer_input": 8,
            "laurel_rank": 8,
            "activation_sparsity_pattern": [0.5, 0.0, 0.5, 0.0],
        },
        covers="keys and values shared across layers, AltUp, per-layer embeddings, sparse gates",
    ),
    "gemma4_text": Case(
        {
            "head_dim": 8,
            "num_hidden_layers": 4,
            "sliding_window": 8,
            "layer_types": [_LOCAL, _GLOBAL, _LOCAL, _GLOBAL],
            "num_kv_shared_layers": 2,
            "vocab_size_per_layer_input": 128,
            "hidden_size_per_layer_input": 8,
            "final_logit_softcapping": 10.0,
        },
        covers="keys and values shared across layers, per-layer embeddings, windows",
    ),
    "gemma4_unified_text": Case(
        {"head_dim": 8, "final_logit_softcapping": 10.0, **_WINDOW}, covers="windows, QK norms"
    ),
    "glm": Case({"head_dim": 8}, covers="interleaved rotary of half a head"),
    "glm4": Case({"head_dim": 8}, covers="norms before and after each branch"),
    "gpt-sw3": Case(covers="learned positions"),
    "gpt2": Case(covers="learned positions, tied head"),
    "gpt_bigcode": Case({"multi_query": True}, covers="multi-query, learned positions"),
    "gpt_neo": Case(
        {
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 8,
            "num_hidden_layers": None,
            "num_attention_heads": None,
        },
        covers="windows, scores without a scale",
    ),
    "gpt_neox": Case(covers="parallel block, rotary of a quarter head"),
    "gpt_neox_japanese": Case(covers="a bias added after attention"),
    "gptj": Case({"rotary_dim": 4}, covers="parallel block, interleaved partial rotary"),
    "granite": Case(_GRANITE, covers="multipliers of embeddings, scores, branches and logits"),
    "granite_swa": Case({**_GRANITE, **_WINDOW}, covers="windows, sinks"),
    "helium": Case({"head_dim": 8}, covers="interleaved rotary"),
    "hrm_text": Case({"head_dim": 8, "num_layers_per_stack": 1}, covers="two stacks run in cycles"),
    "hunyuan_v1_dense": Case({"head_dim": 8}, covers="QK norms after the rotary"),
    "hyperclovax": Case({**_GRANITE, "head_dim": 8}, covers="multipliers, norms after branches"),
    "internlm3": Case({"head_dim": 8, "attention_bias": True, "mlp_bias": True}, covers="biases"),
    "iquestcoder": Case({"head_dim": 8}, covers="grouped queries, heads wider than their share"),
    "jais2": Case(covers="biases, squared ReLU"),
    "llama": Case({"rope_parameters": _LLAMA3}, covers="grouped queries, llama3 rope"),
    "minicpm3": Case(_LATENT, covers="MLA, scaled residuals and logits"),
    "ministral": Case({"head_dim": 8, **_WINDOW}, covers="windows"),
    "ministral3": Case({"head_dim": 8}, covers="YaRN, queries scaled by position"),
    "mistral": Case({"sliding_window": 8}, covers="a window in every layer"),
    "modernbert-decoder": Case(
        {"local_attention": 8, "layer_types": [_LOCAL, _GLOBAL]},
        covers="windows, GeGLU, norms without biases",
    ),
    "mpt": Case({"max_seq_len": 64}, covers="ALiBi counted from the end"),
    "nanochat": Case(covers="QK norms without weights, squared ReLU, capped logits"),
    "nemotron": Case(covers="norms with 1 + weight, squared ReLU, partial rotary"),
    "olmo": Case({"clip_qkv": 1.0}, covers="norms without weights, clipped projections"),
    "olmo2": Case(covers="QK norms over all heads, norms after each branch"),
    "olmo3": Case(_WINDOW, covers="windows, QK norms over all heads"),
    "openai-gpt": Case(covers="norms after each branch, learned positions"),
    "opt": Case({"ffn_dim": 48, "word_embed_proj_dim": 16}, covers="projected embeddings"),
    "persimmon": Case(covers="QK norms with biases, half rotary, squared ReLU"),
    "phi": Case({"qk_layernorm": True}, covers="parallel block, half rotary, biases, QK norms"),
    "phi3": Case({"sliding_window": 8}, covers="fused projections, a window in every layer"),
    "qwen2": Case(covers="biases on queries, keys and values"),
    "qwen3": Case({"head_dim": 8}, covers="QK norms by head"),
    "seed_oss": Case({"head_dim": 8}, covers="biases, a head wider than its share"),
    "smollm3": Case({"no_rope_layer_interval": 2}, covers="layers without positions"),
    "stablelm": Case(
        {"use_qkv_bias": True, "qk_layernorm": True, "use_parallel_residual": True},
        covers="norms for every head, quarter rotary, parallel residual",
    ),
    "starcoder2": Case({"sliding_window": 8}, covers="biases, a window in every layer"),
    "vaultgemma": Case({**_GEMMA, "attn_logit_softcapping": 5.0}, covers="softcaps, windows"),
    "xglm": Case(
        {"ffn_dim": 48, "num_layers": 2, "attention_heads": 4}, covers="sinusoidal positions"
    ),
    "youtu": Case(_LATENT, covers="MLA"),
}
