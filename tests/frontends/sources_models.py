"""Tiny random models for the tests of `hetc.frontends.sources`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

_SMALL: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GROUPED = _SMALL | {"num_key_value_heads": 2}


def tiny_config(family: str, layers: int = 2, **changes: Any) -> Any:
    """A small config of a model family, with `changes` on top."""
    make = {
        "llama": (transformers.LlamaConfig, _GROUPED),
        "qwen2": (transformers.Qwen2Config, _GROUPED | {"tie_word_embeddings": True}),
        "gemma2": (transformers.Gemma2Config, _GROUPED | {"head_dim": 8}),
        "gemma3_text": (transformers.Gemma3TextConfig, _GROUPED | {"head_dim": 8}),
        "mixtral": (transformers.MixtralConfig, _GROUPED | {"num_local_experts": 4}),
        "falcon": (transformers.FalconConfig, _SMALL),
        "bert": (transformers.BertConfig, _SMALL),
        "qwen3_moe": (
            transformers.Qwen3MoeConfig,
            _GROUPED
            | {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2}
            | {"moe_intermediate_size": 16},
        ),
        "gpt_oss": (
            transformers.GptOssConfig,
            _GROUPED | {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
        ),
        "gpt2": (
            transformers.GPT2Config,
            {"vocab_size": 96, "n_embd": 32, "n_head": 4, "n_positions": 64}
            | {"bos_token_id": 1, "eos_token_id": 2},
        ),
        "deepseek_v3": (
            transformers.DeepseekV3Config,
            _SMALL
            | {"num_key_value_heads": 4, "n_routed_experts": 8, "n_group": 2, "topk_group": 1}
            | {"num_experts_per_tok": 2, "moe_intermediate_size": 16, "q_lora_rank": 16}
            | {"kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8},
        ),
    }
    cls, values = make[family]
    return cls(num_hidden_layers=layers, **values | changes)


def tiny_model(config: Any, seed: int = 0) -> Any:
    """A model with random weights, large enough that attention is far from uniform."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    return model.eval()


def save(model: Any, directory: Path, **options: Any) -> Path:
    """Save without a progress bar; returns the directory."""
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(directory, **options)
    return directory


def loaded_state(directory: Path) -> dict[str, torch.Tensor]:
    """The state dict that transformers itself loads from a directory."""
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, local_files_only=True)
    state: dict[str, torch.Tensor] = model.state_dict()
    return state


def run_program(
    program: torch.export.ExportedProgram, weights: Any, tokens: torch.Tensor
) -> np.ndarray:
    """Run an exported program with the weights of a ModelSource in place of its own."""
    kinds = torch.export.graph_signature.InputKind
    arguments: list[torch.Tensor] = []
    for spec in program.graph_signature.input_specs:
        if spec.kind is kinds.USER_INPUT:
            arguments.append(tokens)
        elif spec.target in weights:
            arguments.append(torch.from_numpy(weights[spec.target].load().astype(np.float32)))
        else:
            constant = program.constants[str(spec.target)]
            assert isinstance(constant, torch.Tensor)
            arguments.append(constant)
    with torch.no_grad():
        (logits,) = program.graph_module(*arguments)
    result: np.ndarray = logits.numpy()
    return result
