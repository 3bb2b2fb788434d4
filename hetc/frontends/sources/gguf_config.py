"""A transformers config from a GGUF file's metadata, by transformers' own tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hetc.errors import InputError
from hetc.frontends.sources.gguf_rope import with_rope_factors
from hetc.frontends.sources.gguf_tensors import GGUFFile, damaged

# Frequency factors are part of the rotary embedding, not a weight of any module.
ROPE_FACTORS = "rope_freqs.weight"

# Architectures whose config is a plain renaming of metadata keys. transformers' own function does
# the others; it reads the file once more, with the slow reader.
_RENAMED_ONLY = ("llama", "qwen2", "qwen3", "gemma2", "phi3", "gpt2", "starcoder2")

# How the file's name of an architecture differs from that of transformers' tables.
_TABLE_NAMES = {
    "qwen2moe": "qwen2_moe",
    "qwen3moe": "qwen3_moe",
    "gpt-oss": "gpt_oss",
    "minimax-m2": "minimax_m2",
}


def gguf_config(file: GGUFFile) -> tuple[Any, dict[str, Any], tuple[str, ...]]:
    """The config, the plain facts it was made of (tensor processors need them), and notes.

    Errors: HETC-I065 (metadata that makes no model), HETC-I066 (unknown architecture), HETC-I068 (a
    rotary scaling that transformers would drop).
    """
    import torch
    from transformers import AutoConfig

    architecture = _architecture(file)
    _refuse_rope_scaling(file, architecture)
    try:
        facts = config_facts(file, architecture)
        config = AutoConfig.for_model(**facts)
    except Exception as error:  # every config class has checks and errors of its own
        raise damaged(file.path, error) from error
    dtype = _dtype(file)
    config.dtype = getattr(torch, dtype or "bfloat16")
    notes: tuple[str, ...] = ()
    if dtype is None:
        notes = ("weights are quantized: the model's own dtype is taken as bf16",)
    if ROPE_FACTORS in file.tensors:
        config, more = with_rope_factors(config, file.tensors[ROPE_FACTORS].values(), file.path)
        notes += more
    return config, facts, notes


def config_facts(file: GGUFFile, architecture: str) -> dict[str, Any]:
    """The keyword arguments of the transformers config, by table where a table is enough."""
    from transformers.integrations import GGUF_CONFIG_MAPPING
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    if architecture not in _RENAMED_ONLY:
        facts: dict[str, Any] = load_gguf_checkpoint(str(file.path), return_tensors=False)["config"]
        # transformers leaves this one at its default, which is right for one model.
        width = file.metadata.get(f"{architecture}.expert_feed_forward_length")
        return facts if width is None else facts | {"moe_intermediate_size": width}
    # The output projection is left out of the file where it is the embedding matrix.
    facts = {"tie_word_embeddings": "output.weight" not in file.tensors}
    for key, value in file.metadata.items():
        group, _, name = key.partition(".")
        renamed = GGUF_CONFIG_MAPPING.get(group, {}).get(name)
        if isinstance(renamed, str) and group in ("general", "tokenizer", architecture):
            facts[renamed] = value
    facts.setdefault("vocab_size", file.metadata.get("tokenizer.ggml.tokens"))
    return facts


def _architecture(file: GGUFFile) -> str:
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    architecture = str(file.metadata["general.architecture"])
    if _TABLE_NAMES.get(architecture, architecture) not in GGUF_SUPPORTED_ARCHITECTURES:
        known = set(GGUF_SUPPORTED_ARCHITECTURES) - {"general", "tokenizer"}
        raise InputError(
            "HETC-I066",
            "transformers cannot read GGUF files of this architecture",
            at=str(file.path),
            expected=", ".join(sorted(known)),
            found=repr(architecture),
            do="compile the model's Hugging Face directory instead",
        )
    return architecture


def _refuse_rope_scaling(file: GGUFFile, architecture: str) -> None:
    """transformers reads this key of gpt-oss alone, and drops it elsewhere without a word."""
    scaling = file.metadata.get(f"{architecture}.rope.scaling.type", "none")
    if scaling != "none" and architecture != "gpt-oss":
        raise InputError(
            "HETC-I068",
            "the file scales rotary frequencies in a way that transformers does not read",
            at=f"{file.path}: {architecture}.rope.scaling.type",
            expected="none",
            found=repr(scaling),
            do="compile the model's Hugging Face directory instead",
        )


def _dtype(file: GGUFFile) -> str | None:
    """The torch name of all matrices' float type; None where some are quantized, or they differ."""
    plain = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    kinds = {tensor.kind.name for tensor in file.tensors.values() if len(tensor.shape) > 1}
    names: Mapping[str, str] = {kind: plain[kind] for kind in kinds if kind in plain}
    return next(iter(names.values())) if len(names) == len(kinds) == 1 else None
