"""A bundle of hetc."""

from __future__ import annotations

from pathlib import Path

from hetc.driver import CompileOptions, compile_bundle
from hetc.driver.options import QUANTIZE


def convert(kind: str, source: Path, target: Path) -> None:
    """Compile in the dtype `kind`, or quantized so; other options are as by default."""
    options = (
        CompileOptions(quantize=kind)
        if kind in QUANTIZE
        else CompileOptions(dtype=kind, quantize="none")
    )
    compile_bundle(source, target, options)
