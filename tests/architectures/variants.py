"""Forms that one type can take by its configuration: what differs from the type's own case."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.architectures import dense
from tests.architectures.case import Case

_TYPES = {**dense.CASES}


def _form(type: str, changes: dict[str, Any], **fields: Any) -> tuple[str, Case]:
    """The case of `type` with other configuration fields on top of its own."""
    case = _TYPES.get(type, Case())
    return type, replace(case, config={**case.config, **changes}, **fields)


def _rope(kind: str, **fields: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **fields}}


_FACTORS = {"short_factor": [1.0, 1.5, 2.0, 2.5], "long_factor": [2.0, 4.0, 6.0, 8.0]}
_LONG = {
    "original_max_position_embeddings": 32,
    **_rope("longrope", original_max_position_embeddings=32, **_FACTORS),
}

VARIANTS: dict[str, tuple[str, Case]] = {
    "bert-encoder": (
        "bert",
        Case(
            outcome="not causal",
            says="every position sees every other",
            because="every token sees every other; with `is_decoder` it works",
        ),
    ),
    "bloom-post-norm": _form(
        "bloom",
        {"apply_residual_connection_post_layernorm": True},
        covers="the residual is what the norm gives",
    ),
    "cohere-no-qk-norm": _form("cohere", {"use_qk_norm": False}, covers="without QK norms"),
    "falcon-alibi": _form("falcon", {"alibi": True}, covers="ALiBi instead of rotary"),
    "falcon-new": _form(
        "falcon",
        {"new_decoder_architecture": True, "num_kv_heads": 2, "multi_query": False},
        covers="grouped queries, a norm for each branch",
    ),
    "falcon-sequential": _form(
        "falcon",
        {"parallel_attn": False, "multi_query": False, "bias": True},
        covers="one branch after the other, biases",
    ),
    "gemma3_text-linear": _form(
        "gemma3_text",
        {
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
            }
        },
        covers="linear scaling in full layers only",
    ),
    "gemma4_text-shared-values": _form(
        "gemma4_text",
        {"attention_k_eq_v": True, "num_global_key_value_heads": 1, "global_head_dim": 8},
        covers="keys that are values",
    ),
    "gpt2-scaled": _form(
        "gpt2",
        {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
        covers="scores scaled by the layer's number",
    ),
    "gpt_bigcode-heads": _form("gpt_bigcode", {"multi_query": False}, covers="keys for every head"),
    "gpt_neox-sequential": _form(
        "gpt_neox", {"use_parallel_residual": False}, covers="one branch after the other"
    ),
    "llama-biases": _form(
        "llama",
        {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
        covers="biases everywhere, tied head",
    ),
    "llama-dynamic": _form(
        "llama",
        _rope("dynamic", factor=2.0),
        outcome="torch cannot export it",
        says="HETC-I069",
        because="dynamic NTK scaling branches on the largest position; use YaRN or linear scaling",
    ),
    "llama-linear": _form("llama", _rope("linear", factor=2.0), covers="linear scaling"),
    "llama-yarn": _form(
        "llama",
        _rope("yarn", factor=4.0, original_max_position_embeddings=16),
        covers="YaRN",
    ),
    "mistral-full": _form("mistral", {"sliding_window": None}, covers="no window"),
    "opt-post-norm": _form("opt", {"do_layer_norm_before": False}, covers="norms after branches"),
    "phi3-long": _form(
        "phi3",
        _LONG,
        outcome="refused",
        says="a positional value changes with the sequence length",
        because="longrope turns all keys anew once a sequence is longer than the original length:"
        " bound the context to one side of it (`--context`)",
    ),
    "phi3-short": _form("phi3", _LONG, context=32, covers="longrope within its original length"),
    "qwen2-windows": _form(
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
        covers="windows from a layer on",
    ),
    "stablelm-sequential": _form(
        "stablelm",
        {"use_qkv_bias": False, "qk_layernorm": False, "use_parallel_residual": False},
        covers="one branch after the other",
    ),
}
