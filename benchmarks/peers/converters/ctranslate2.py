"""A CTranslate2 model, by its converter of transformers models."""

from __future__ import annotations

from pathlib import Path

from ctranslate2.converters import TransformersConverter


def convert(kind: str, source: Path, target: Path) -> None:
    """`kind` is a quantization as CTranslate2 names it."""
    TransformersConverter(str(source)).convert(str(target), quantization=kind)
