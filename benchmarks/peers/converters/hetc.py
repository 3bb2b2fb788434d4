"""A bundle of hetc."""

from __future__ import annotations

from pathlib import Path

from hetc.driver import CompileOptions, compile_bundle


def convert(kind: str, source: Path, target: Path) -> None:
    """Compile in the dtype `kind`, with the other options as they are by default."""
    compile_bundle(source, target, CompileOptions(dtype=kind))
