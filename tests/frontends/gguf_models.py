"""Small GGUF files, written tensor by tensor for the tests of `hetc.frontends.sources`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np

Tensors = dict[str, np.ndarray]
Kind = gguf.GGMLQuantizationType
# Kinds in all forms in which integers are kept, each for some matrix of a Llama.
KINDS = {
    "token_embd": Kind.Q2_K,
    "attn_q": Kind.Q4_0,
    "attn_k": Kind.Q4_1,
    "attn_v": Kind.Q5_0,
    "attn_output": Kind.Q5_1,
    "ffn_gate": Kind.Q8_0,
    "ffn_up": Kind.Q4_K,
    "ffn_down": Kind.Q5_K,
    "output": Kind.Q6_K,
}


def of_every_kind(name: str) -> Kind:
    """The kind of a matrix of a Llama in a file of many."""
    return KINDS[name.removesuffix(".weight").rpartition(".")[2]]


_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def llama_tensors(model: Any) -> Tensors:
    """The weights of a transformers Llama under GGUF's names, queries and keys in GGUF's order."""
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    tensors = {
        "token_embd.weight": state["model.embed_tokens.weight"],
        "output_norm.weight": state["model.norm.weight"],
        "output.weight": state["lm_head.weight"],
    }
    config = model.config
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for layer in range(config.num_hidden_layers):
        for theirs, ours in _LAYER.items():
            weight = state[f"model.layers.{layer}.{theirs}.weight"]
            if ours in heads:
                weight = _interleaved(weight, heads[ours])
            tensors[f"blk.{layer}.{ours}.weight"] = weight
    return tensors


def qwen3_moe_tensors(model: Any) -> Tensors:
    """The weights of a transformers Qwen3 MoE; its stacked gates and ups are two tensors here."""
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    tensors = {
        "token_embd.weight": state["model.embed_tokens.weight"],
        "output_norm.weight": state["model.norm.weight"],
        "output.weight": state["lm_head.weight"],
    }
    plain = {name: ours for name, ours in _LAYER.items() if not name.startswith("mlp")}
    plain |= {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
    plain |= {"mlp.gate": "ffn_gate_inp"}
    for layer in range(model.config.num_hidden_layers):
        for theirs, ours in plain.items():
            weight = state[f"model.layers.{layer}.{theirs}.weight"]
            tensors[f"blk.{layer}.{ours}.weight"] = weight
        gate, up = np.split(state[f"model.layers.{layer}.mlp.experts.gate_up_proj"], 2, axis=1)
        tensors[f"blk.{layer}.ffn_gate_exps.weight"] = np.ascontiguousarray(gate)
        tensors[f"blk.{layer}.ffn_up_exps.weight"] = np.ascontiguousarray(up)
        down = state[f"model.layers.{layer}.mlp.experts.down_proj"]
        tensors[f"blk.{layer}.ffn_down_exps.weight"] = down
    return tensors


def _interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """The halves of every head that rotate together, next to each other."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))


def random_blocks(kind: Kind, count: int) -> np.ndarray:
    """Blocks u8[count, bytes] of any bits, but for scales that make elements of about 0.05."""
    rng = np.random.default_rng(count)
    blocks = rng.integers(0, 256, (count, gguf.constants.GGML_QUANT_SIZES[kind][1]), np.uint8)
    ends = {"Q2_K": (80, 82), "Q3_K": (108,), "Q6_K": (208,)}
    one = {"Q8_0": (0,), "Q4_0": (0,), "Q5_0": (0,)}
    places = (ends | one).get(kind.name, (0, 2))
    numbers = rng.uniform(0.5, 1.0, (len(places), count, 1))
    for size in (1.0, None):
        if size is None:
            size = 0.05 / np.abs(gguf.quants.dequantize(blocks, kind)).mean()
        for place, number in zip(places, numbers, strict=True):
            # The second is the smallest number or is subtracted: about what the first spans.
            signed = -8 * number if kind.name in ("Q4_1", "Q5_1") and place == 2 else number
            blocks[:, place : place + 2] = (size * signed).astype(np.float16).view(np.uint8)
    return blocks


def _blocks(tensor: np.ndarray, kind: Kind) -> np.ndarray:
    try:
        return gguf.quants.quantize(tensor, kind)
    except NotImplementedError:
        blocks = random_blocks(kind, tensor.size // gguf.constants.GGML_QUANT_SIZES[kind][0])
        return blocks.reshape(*tensor.shape[:-1], -1)


def write_gguf(
    path: Path,
    tensors: Tensors,
    *,
    config: Any,
    architecture: str = "llama",
    kind: Kind | Callable[[str], Kind] = Kind.F32,
    change: Callable[[gguf.GGUFWriter], object] = lambda writer: None,
) -> Path:
    """Write a file without a tokenizer; matrices are stored as `kind` (of their name), vectors as
    F32.

    Of kinds that the gguf package only reads, matrices have random numbers.
    """
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    change(writer)
    for name, tensor in tensors.items():
        stored = Kind.F32 if tensor.ndim == 1 else kind if isinstance(kind, Kind) else kind(name)
        if stored is Kind.F32:
            writer.add_tensor(name, tensor)
        else:
            writer.add_tensor(name, _blocks(tensor, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
