"""What is installed, and what each part of hetc can do here."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass

import hetc
from hetc.backends.native.isa import VARIANTS
from hetc.errors import HetcError
from hetc.runtime.cuda import device_info
from hetc.runtime.native.code_cache import user_folder
from hetc.runtime.native.cpu import cpu_features
from hetc.targets import measured_device

# Distribution, what it is for, the extra that brings it.
PACKAGES = (
    ("numpy", "the reference executor", "compile"),
    ("onnxruntime", "the onnx executor", "compile"),
    ("tokenizers", "text in and out", "compile"),
    ("torch", "models from torch.export and Hugging Face", "compile"),
    ("transformers", "models from Hugging Face and GGUF", "compile"),
    ("gguf", "GGUF files", "compile"),
    ("onnx", "ONNX files in and out", "compile"),
    ("networkx", "state placement and the cut", "compile"),
    ("scipy", "cuts of more than two devices", "compile"),
    ("matplotlib", "pictures as PNG", "compile"),
    ("torch-mlir", "the native executor, MLIR export checks", "compile"),
    ("triton", "kernels for GPUs", "cuda"),
    ("cuda-bindings", "the cuda executor", "cuda"),
)


@dataclass(frozen=True)
class Finding:
    """One line of `hetc doctor`: `status` is `ok`, `missing` or `limited`."""

    name: str
    status: str
    detail: str


def doctor(*, measure: bool = True) -> list[Finding]:
    """Versions, the host as measured, and what is missing for what."""
    found = [Finding("hetc", "ok", f"{hetc.__version__} on Python {platform.python_version()}")]
    found += [_package(*entry) for entry in PACKAGES]
    if measure:
        host = measured_device()
        memory = host.memory(host.main_memory)
        rate = host.rate("f32").value
        speeds = f"reads {memory.bandwidth.value / 1e9:.0f} GB/s · f32 {rate / 1e9:.0f} GFLOP/s"
        detail = f"{host.title} · {speeds} (measured)"
        found.append(Finding("host", "ok", detail))
    found.append(_native())
    found.append(_gpu())
    return found


def _native() -> Finding:
    """The instruction sets of the native engine that this CPU runs, the best first."""
    features = cpu_features()
    usable = [isa.name for isa in VARIANTS if features.issuperset(isa.needs)]
    folder = user_folder()
    kept = "compiled at every load" if folder is None else f"kept in {folder}"
    return Finding("native", "ok", f"machine code for {', '.join(usable)} · {kept}")


def _gpu() -> Finding:
    """The GPU that the cuda executor would take, or why there is none."""
    try:
        info = device_info()
    except HetcError as error:
        why = f"{error.what}: {error.found}" if error.found else error.what
        return Finding("gpu", "missing", f"{why} · prefill runs on the CPU executors")
    memory = f"{info.memory_bytes / 1e9:.0f} GB"
    return Finding("gpu", "ok", f"{info.name} · {info.arch} · {memory} · CUDA {info.driver}")


def _package(name: str, purpose: str, extra: str) -> Finding:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "missing", f"{purpose} · pip install 'hetc[{extra}]'")
    return Finding(name, "ok", f"{version} · {purpose}")
