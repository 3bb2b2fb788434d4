"""Tiny random decoders as ONNX files: exported by torch, or written as text."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import parser
from transformers import (
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

VOCABULARY = 64
LAYERS = 2
_GROUPED = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def decoder(family: str) -> Any:
    """A random model of this family, two layers, in evaluation mode."""
    torch.manual_seed(0)
    if family == "gpt2":
        config: Any = GPT2Config(
            vocab_size=VOCABULARY, n_embd=32, n_layer=LAYERS, n_head=4, n_positions=48, n_inner=48
        )
        config.bos_token_id = config.eos_token_id = None
        config._attn_implementation = "eager"
        return GPT2LMHeadModel(config).eval()
    kinds: dict[str, Any] = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    }
    configuration, model = kinds[family]
    config = configuration(**_GROUPED)
    config._attn_implementation = "sdpa"
    return model(config).eval()


class Stateless(torch.nn.Module):
    """input_ids, attention_mask -> logits."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Any, attention_mask: Any = None) -> Any:
        return self.model(input_ids, attention_mask=attention_mask, use_cache=False).logits


class WithPast(torch.nn.Module):
    """input_ids, attention_mask, position_ids, a flat past -> logits, present."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Any, attention_mask: Any, position_ids: Any, past: Any) -> Any:
        cache = DynamicCache([tuple(pair) for pair in past], config=self.model.config)
        result = self.model(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
        )
        layers = result.past_key_values.layers
        present = [part for layer in layers for part in (layer.keys, layer.values)]
        return (result.logits, *present)


@dataclass(frozen=True)
class Exported:
    """An ONNX file and the torch module that it was made from."""

    path: Path
    model: Any


def export_stateless(family: str, folder: Path, opset: int | None = None) -> Exported:
    """`family` by the torch.export-based exporter; the weights of qwen2 go to a second file."""
    model = decoder(family)
    program = quietly(
        Stateless(model).eval(),
        (torch.randint(0, VOCABULARY, (2, 7)),),
        dynamo=True,
        input_names=["input_ids"],
        output_names=["logits"],
        dynamic_shapes={"input_ids": {0: "batch", 1: "sequence"}},
        opset_version=opset,
    )
    path = folder / f"{family}.onnx"
    program.save(str(path), external_data=family == "qwen2")
    return Exported(path, model)


def export_legacy(family: str, folder: Path, opset: int = 17) -> Exported:
    """`family` by the tracing exporter, whose graphs are full of arithmetic on shapes."""
    model = decoder(family)
    path = folder / f"{family}_legacy.onnx"
    dynamic = {name: {0: "batch", 1: "sequence"} for name in ("input_ids", "attention_mask")}
    quietly(
        Stateless(model).eval(),
        (torch.randint(0, VOCABULARY, (2, 7)), torch.ones(2, 7, dtype=torch.long)),
        str(path),
        dynamo=False,
        opset_version=opset,
        input_names=list(dynamic),
        output_names=["logits"],
        dynamic_axes=dynamic,
    )
    return Exported(path, model)


def export_with_past(family: str, folder: Path) -> Exported:
    """`family` as a decoder in Optimum's form: the cache comes in and goes out by name."""
    model = decoder(family)
    heads = 4 if family == "gpt2" else 2
    rows, past_rows = 3, 5
    past = [[torch.randn(2, heads, past_rows, 8) for _ in "kv"] for _ in range(LAYERS)]
    parts = [f"{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")]
    inputs = (
        torch.randint(0, VOCABULARY, (2, rows)),
        torch.ones(2, past_rows + rows, dtype=torch.long),
        (torch.arange(rows) + past_rows)[None].expand(2, rows).contiguous(),
        past,
    )
    sequence = {0: "batch", 1: "sequence"}
    program = quietly(
        WithPast(model).eval(),
        inputs,
        dynamo=True,
        input_names=["input_ids", "attention_mask", "position_ids"]
        + [f"past_key_values.{part}" for part in parts],
        output_names=["logits"] + [f"present.{part}" for part in parts],
        dynamic_shapes={
            "input_ids": sequence,
            "attention_mask": {0: "batch", 1: "total"},
            "position_ids": sequence,
            "past": [[{0: "batch", 2: "past"}] * 2] * LAYERS,
        },
    )
    path = folder / f"{family}_past.onnx"
    program.save(str(path))
    return Exported(path, model)


def quietly(module: Any, inputs: Any, *args: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.onnx.export(module, inputs, *args, verbose=False, **options)


HEADER = '<ir_version: 10, opset_import: ["": 21, "ai.onnx.ml": 3, "com.microsoft": 1]>\n'


def write_text(path: Path, text: str) -> Path:
    """A model in ONNX's text form as a file."""
    onnx.save_model(parser.parse_model(HEADER + text), str(path))
    return path
