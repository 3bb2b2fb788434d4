"""GGUF files of other types, by llama.cpp's own quantizer."""

from __future__ import annotations

from pathlib import Path

import llama_cpp as llama


def convert(kind: str, source: Path, target: Path) -> None:
    """`kind` is the file type as llama.cpp names it: BF16, Q8_0, Q4_0."""
    settings = llama.llama_model_quantize_default_params()
    settings.ftype = getattr(llama, f"LLAMA_FTYPE_MOSTLY_{kind}")
    settings.allow_requantize = True
    failed = llama.llama_model_quantize(str(source).encode(), str(target).encode(), settings)
    if failed:
        raise RuntimeError(f"llama_model_quantize returned {failed}")
