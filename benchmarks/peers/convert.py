"""One model into one format, in a process of its own.

    python -m benchmarks.peers.convert CONVERTER:KIND SOURCE TARGET

A converter is a module of `benchmarks/peers/converters`; a peer's own runs in the peers'
environment.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

_CONVERTERS = "benchmarks.peers.converters."


def main(name: str, source: Path, target: Path) -> None:
    """Convert beside the target and move it there, so that a half-made model is never used."""
    partial = target.with_name(f"{target.name}.partial")
    if partial.is_dir():
        shutil.rmtree(partial)
    partial.unlink(missing_ok=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    module, _, kind = name.partition(":")
    importlib.import_module(_CONVERTERS + module).convert(kind, source, partial)
    partial.rename(target)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
