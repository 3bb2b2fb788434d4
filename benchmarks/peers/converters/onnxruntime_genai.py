"""An ONNX model by ONNX Runtime GenAI's model builder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def convert(kind: str, source: Path, target: Path) -> None:
    """`kind` is a precision that the builder has for the CPU: fp32, int8 or int4."""
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
    command += ["-i", str(source), "-o", str(target), "-p", kind, "-e", "cpu"]
    # Prefill computes the logits of the last token alone, as everyone's does here.
    command += ["--extra_options", "prune_lm_head=true"]
    subprocess.run(command, check=True)
