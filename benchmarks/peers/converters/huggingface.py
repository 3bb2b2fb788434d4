"""The GGUF file dequantized, as a Hugging Face directory: what the peers' converters read."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers

from hetc.frontends.original import model_of_gguf


def convert(kind: str, source: Path, target: Path) -> None:
    """safetensors in the dtype `kind`, config.json and tokenizer, all by transformers."""
    dtype = getattr(torch, kind)
    model = model_of_gguf(source).to(dtype)
    model.config.dtype = dtype
    model.save_pretrained(target)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    tokenizer.save_pretrained(target)
