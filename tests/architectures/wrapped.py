"""Language models inside others: of images and sounds, and the decoders of encoder-decoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.architectures.case import SMALL, Case

_LOCAL, _GLOBAL = "sliding_attention", "full_attention"
_WINDOWS = {"sliding_window": 8, "layer_types": [_LOCAL, _GLOBAL]}
# Models of these names write their sizes in another way, or inside a configuration of their own.
_NONE: dict[str, Any] = dict.fromkeys(SMALL)
_TOKENS = {key: SMALL[key] for key in ("pad_token_id", "bos_token_id", "eos_token_id")}
_DECODER = {
    **_NONE,
    **_TOKENS,
    "vocab_size": SMALL["vocab_size"],
    "max_position_embeddings": SMALL["max_position_embeddings"],
    "d_model": 32,
    "encoder_layers": 1,
    "encoder_ffn_dim": 48,
    "encoder_attention_heads": 4,
    "decoder_layers": 2,
    "decoder_ffn_dim": 48,
    "decoder_attention_heads": 4,
    "decoder_start_token_id": 1,
    "forced_eos_token_id": None,
}
_SCALED = {**_DECODER, "scale_embedding": True}
_IMAGES = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}
_GEMMA4 = {
    **SMALL,
    **_WINDOWS,
    "head_dim": 8,
    "global_head_dim": 16,
    "final_logit_softcapping": 10.0,
}
_NO_INPUT = {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}
_DELTA = {
    **SMALL,
    "head_dim": 16,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "layer_types": ["linear_attention", _GLOBAL],
}
_AUDIO = {
    "audio_encoder": {"model_type": "encodec"},
    "text_encoder": {"model_type": "t5"},
}

_DRAFTS = (
    "A draft model whose layers all read the keys and values of a main model: it makes "
    "nothing of tokens alone, and transformers 5.23 builds none from a configuration."
)


def _inside(text: Mapping[str, Any], **others: Any) -> dict[str, Any]:
    """A configuration whose language model is `text_config`."""
    return {**_NONE, "text_config": text, **others}


_CODEBOOKS: dict[str, Any] = {
    **_AUDIO,
    "decoder": {
        "vocab_size": 128,
        "num_hidden_layers": 2,
        "ffn_dim": 48,
        "num_attention_heads": 4,
        "hidden_size": 32,
        "num_codebooks": 4,
        "pad_token_id": 0,
        "bos_token_id": 0,
        "max_position_embeddings": 64,
    },
}
CASES: dict[str, Case] = {
    "bart": Case(_DECODER, covers="learned positions with an offset, norms after each block"),
    "bigbird_pegasus": Case(_SCALED, covers="the decoder beside a block-sparse encoder"),
    "blenderbot": Case(_DECODER, covers="learned positions, norms before each block"),
    "blenderbot-small": Case(_DECODER, covers="learned positions, a norm of the embeddings"),
    "emu3": Case(
        _inside(SMALL, vocabulary_map={"<image>": 5}),
        covers="a decoder with a configuration of its own",
    ),
    "fuyu": Case(
        _inside(
            {**SMALL, "model_type": "persimmon", "num_key_value_heads": None},
            image_token_id=5,
            image_size=32,
            patch_size=16,
        ),
        covers="persimmon inside: partial rotary positions, QK norms",
    ),
    "gemma3": Case(
        _inside(
            {**SMALL, **_WINDOWS, "head_dim": 8, "query_pre_attn_scalar": 8},
            vision_config=_IMAGES,
            mm_tokens_per_image=4,
            image_token_index=127,
            boi_token_index=126,
            eoi_token_index=125,
        ),
        covers="sliding windows beside full attention, each with its rotary base",
    ),
    "gemma3n": Case(
        _inside(
            {
                **SMALL,
                "num_hidden_layers": 4,
                "head_dim": 8,
                "intermediate_size": [48, 48, 48, 48],
                "sliding_window": 8,
                "layer_types": [_LOCAL, _GLOBAL, _LOCAL, _GLOBAL],
                "vocab_size_per_layer_input": 128,
                "hidden_size_per_layer_input": 8,
                "altup_num_inputs": 2,
                "num_kv_shared_layers": 2,
                "laurel_rank": 4,
                "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0],
            },
        ),
        alone=False,
        outcome="refused",
        says="needs another package to build the model",
        because=(
            "transformers builds its image tower with timm, which hetc does not need and the tests"
            " do not install. The language model alone, gemma3n_text, compiles."
        ),
    ),
    "gemma4": Case(
        _inside(
            {
                **_GEMMA4,
                "num_hidden_layers": 4,
                "layer_types": [_LOCAL, _GLOBAL, _LOCAL, _GLOBAL],
                "num_kv_shared_layers": 2,
                "vocab_size_per_layer_input": 128,
                "hidden_size_per_layer_input": 8,
                "use_double_wide_mlp": True,
                "enable_moe_block": True,
                "num_experts": 8,
                "top_k_experts": 2,
                "moe_intermediate_size": 16,
            },
            image_token_id=127,
            boi_token_id=126,
            eoi_token_id=125,
            video_token_id=124,
            boa_token_id=123,
            eoa_token_index=122,
            audio_token_id=121,
        ),
        covers=(
            "keys and values shared by later layers, embeddings for each layer, experts beside a "
            "dense MLP"
        ),
    ),
    "gemma4_assistant": Case(
        {
            **_NONE,
            "backbone_hidden_size": 32,
            "num_centroids": 8,
            "centroid_intermediate_top_k": 2,
            "text_config": {**_GEMMA4, **_NO_INPUT, "num_kv_shared_layers": 0},
        },
        alone=False,
        outcome="refused",
        says="no model can be built from the config",
        because=_DRAFTS,
    ),
    "gemma4_unified": Case(
        _inside(
            _GEMMA4,
            image_token_id=127,
            boi_token_id=126,
            eoi_token_id=125,
            video_token_id=124,
            boa_token_id=123,
            eoa_token_index=122,
            audio_token_id=121,
        ),
        covers="sliding windows, wider heads in full attention",
    ),
    "gemma4_unified_assistant": Case(
        {
            **_NONE,
            "backbone_hidden_size": 32,
            "num_centroids": 8,
            "centroid_intermediate_top_k": 2,
            "text_config": {**_GEMMA4, "num_kv_shared_layers": 0},
        },
        alone=False,
        outcome="refused",
        says="no model can be built from the config",
        because=_DRAFTS,
    ),
    "git": Case(
        {"num_key_value_heads": None, "vision_config": _IMAGES},
        covers="BERT's layers with a causal mask, without an image",
    ),
    "got_ocr2": Case(
        _inside(
            {**SMALL, "model_type": "qwen2"},
            image_token_index=127,
            vision_config={
                "hidden_size": 16,
                "output_channels": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 64,
                "window_size": 2,
                "global_attn_indexes": [0],
                "mlp_dim": 16,
            },
        ),
        covers="qwen2 inside",
    ),
    "llama4": Case(
        _inside(
            {
                **SMALL,
                "num_hidden_layers": 4,
                "intermediate_size_mlp": 48,
                "head_dim": 8,
                "num_local_experts": 4,
                "interleave_moe_layer_step": 2,
                "attention_chunk_size": 8,
                "floor_scale": 4,
            },
        ),
        covers="llama4_text inside: chunked attention, top-1 experts",
    ),
    "marian": Case({**_SCALED, "decoder_vocab_size": 128}, covers="sinusoidal positions"),
    "mbart": Case(_SCALED, covers="scaled embeddings, a norm at the end"),
    "mllama": Case(
        _inside({**SMALL, "num_hidden_layers": 3, "cross_attention_layers": [1]}),
        covers="layers of cross attention, which text alone skips",
    ),
    "moshi": Case(
        {"head_dim": 8, "sliding_window": 8, "ffn_dim": 64, "intermediate_size": None},
        covers="a sliding window, gated MLPs of one matrix",
    ),
    "moss_transcribe_diarize": Case(
        _inside(
            {**SMALL, "model_type": "qwen3", "head_dim": 8},
            audio_token_id=127,
            audio_config={
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 16,
                "hidden_size": 16,
                "max_source_positions": 16,
            },
        ),
        covers="qwen3 inside",
    ),
    "musicgen": Case(
        {
            **_NONE,
            **_CODEBOOKS,
        },
        alone=False,
        outcome="refused",
        says="the model is an encoder-decoder",
        because=(
            "transformers takes this name for the text encoder, decoder and codec together, and "
            "builds no MusicgenForCausalLM from it (AttributeError). Its decoder takes rows of "
            "codebooks, not sequences of tokens."
        ),
    ),
    "musicgen_melody": Case(
        {
            **_NONE,
            **_CODEBOOKS,
        },
        alone=False,
        outcome="refused",
        says="the model is an encoder-decoder",
        because=(
            "transformers takes this name for the text encoder, decoder and codec together, and "
            "builds no MusicgenMelodyForCausalLM from it (AttributeError). Its decoder takes rows "
            "of codebooks, not sequences of tokens."
        ),
    ),
    "mvp": Case(
        {**_DECODER, "use_prompt": True, "prompt_length": 4, "prompt_mid_dim": 8},
        covers="prompts for each layer switched on, which the decoder alone does not read",
    ),
    "pegasus": Case(_SCALED, covers="sinusoidal positions, scaled embeddings"),
    "phi4_multimodal": Case(
        {
            "vision_config": {**_IMAGES, "crop_size": 32, "image_token_id": 127},
            "audio_config": {
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_blocks": 1,
                "num_attention_heads": 2,
                "ext_pw_out_channel": 16,
                "depthwise_separable_out_channel": 16,
                "nemo_conv_channels": 16,
                "audio_token_id": 126,
            },
        },
        covers="phi3's layers with adapters, without an image",
    ),
    "plbart": Case(_SCALED, covers="scaled embeddings, learned positions"),
    "prophetnet": Case(
        {
            **_NONE,
            **_TOKENS,
            "vocab_size": 128,
            "max_position_embeddings": 64,
            "hidden_size": 32,
            "encoder_ffn_dim": 48,
            "num_encoder_layers": 1,
            "num_encoder_attention_heads": 4,
            "decoder_ffn_dim": 48,
            "num_decoder_layers": 2,
            "num_decoder_attention_heads": 4,
            "num_buckets": 8,
            "relative_max_distance": 16,
        },
        outcome="torch cannot export it",
        says="torch.export cannot follow",
        because=(
            "It runs 1 + ngram streams along one axis and cuts it with chunk, whose number of "
            "pieces torch cannot prove. Beyond that, its attention adds biases that are picked by "
            "position from what each query computes, and hetc's attention takes no bias that "
            "depends on data."
        ),
        covers="several streams a sequence, biases that depend on data",
    ),
    "qwen3_5": Case(_inside(_DELTA), covers="gated delta nets beside gated attention"),
    "qwen3_5_moe": Case(
        _inside(
            {
                **_DELTA,
                "num_experts": 8,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 16,
                "shared_expert_intermediate_size": 16,
            }
        ),
        covers="gated delta nets beside gated attention, a gated shared expert",
    ),
    "trocr": Case(
        {
            **_NONE,
            **_TOKENS,
            "vocab_size": 128,
            "max_position_embeddings": 64,
            "d_model": 32,
            "decoder_layers": 2,
            "decoder_attention_heads": 4,
            "decoder_ffn_dim": 48,
        },
        covers="learned positions, a norm of the embeddings",
    ),
    "whisper": Case(
        {
            **_DECODER,
            "max_position_embeddings": None,
            "max_target_positions": 64,
            "max_source_positions": 16,
            "begin_suppress_tokens": None,
            "forced_eos_token_id": None,
        },
        covers="learned positions, keys without a bias",
    ),
}
