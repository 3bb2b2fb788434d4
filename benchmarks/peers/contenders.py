"""Who is measured: each peer at its best setting of each class, and hetc's executors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Under this prefix an engine is named by its module and class.
ENGINES = "benchmarks.peers.engines."
HUGGINGFACE = "huggingface:bfloat16"
# SmolLM2-135M: keys and values x layers x heads x head size.
_STATE_ELEMENTS = 2 * 30 * 3 * 64
# The embedding table where a file has it beside the output matrix: a token reads one row of it.
_EMBEDDING_ELEMENTS = 49_152 * 576


@dataclass(frozen=True)
class Contender:
    """One row.

    `bits` is the class by what the weights are given: 16 (not quantized), 8 or 4. `format` names
    converter and kind, "" where the GGUF file itself is run; `source` is the format that it is
    made of, "" for the GGUF file. `weights` are the files with the weights in the model's folder,
    of which `idle_bytes` are not read by a step of decode. `state_bytes` is what a token of context
    adds to the key-value cache.
    """

    name: str
    bits: int
    python: Path
    engine: str
    format: str
    state_bytes: int
    weights: str = ""
    source: str = HUGGINGFACE
    idle_bytes: int = 0
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def is_hetc(self) -> bool:
        return self.format.startswith("hetc:")

    def decode_bytes(self, model: Path, context: float) -> float:
        """What a step after `context` tokens reads at least: weights as stored, and the cache."""
        files = [model] if model.is_file() else list(model.glob(self.weights))
        stored = sum(file.stat().st_size for file in files) - self.idle_bytes
        return stored + self.state_bytes * context


def peers(python: Path) -> Iterator[Contender]:
    """Every peer; `python` is the interpreter of their environment."""
    yield from _llama_cpp(python)
    yield from _openvino(python)
    yield from _onnxruntime(python)
    yield from _ctranslate2(python)
    yield from _transformers()


def hetc(executor: str) -> Iterator[Contender]:
    """hetc's `executor` on bundles of the GGUF file in each class."""
    for bits, kind in ((16, "bf16"), (8, "int8"), (4, "int4")):
        yield Contender(
            f"hetc {executor} {kind}",
            bits,
            Path(sys.executable),
            ENGINES + "hetc:Hetc",
            f"hetc:{kind}",
            2 * _STATE_ELEMENTS,
            "native/weights.bin" if executor == "native" else "weights/*",
            source="",
            options={"executor": executor},
        )


def _llama_cpp(python: Path) -> Iterator[Contender]:
    for bits, kind in ((16, "BF16"), (8, "Q8_0"), (4, "Q4_0"), (4, "Q4_1")):
        yield Contender(
            f"llama.cpp {kind}",
            bits,
            python,
            ENGINES + "llama_cpp:LlamaCpp",
            # The GGUF file is of that type itself.
            "" if kind == "Q4_1" else f"llama_cpp:{kind}",
            2 * _STATE_ELEMENTS,
            source="",
        )


def _openvino(python: Path) -> Iterator[Contender]:
    for bits, kind in ((16, "bf16"), (8, "int8"), (4, "int4")):
        yield Contender(
            f"OpenVINO GenAI {kind}",
            bits,
            python,
            ENGINES + "openvino_genai:OpenVINOGenAI",
            f"openvino_genai:{kind}",
            _STATE_ELEMENTS,
            "openvino_model.bin",
        )


def _onnxruntime(python: Path) -> Iterator[Contender]:
    # Of the three files only that in int8 has the embeddings apart, in f32.
    for bits, kind, idle in ((16, "fp32", 0), (8, "int8", 4 * _EMBEDDING_ELEMENTS), (4, "int4", 0)):
        yield Contender(
            f"ONNX Runtime GenAI {kind}",
            bits,
            python,
            ENGINES + "onnxruntime_genai:OnnxRuntimeGenAI",
            f"onnxruntime_genai:{kind}",
            4 * _STATE_ELEMENTS,
            "model.onnx.data",
            idle_bytes=idle,
        )


def _ctranslate2(python: Path) -> Iterator[Contender]:
    for bits, kind in ((16, "float32"), (8, "int8")):
        yield Contender(
            f"CTranslate2 {kind}",
            bits,
            python,
            ENGINES + "ctranslate2:CTranslate2",
            f"ctranslate2:{kind}",
            4 * _STATE_ELEMENTS,
            "model.bin",
            options={"compute": kind},
        )


def _transformers() -> Iterator[Contender]:
    for title, compiled in (("eager", False), ("torch.compile", True)):
        yield Contender(
            f"transformers {title} bf16",
            16,
            Path(sys.executable),
            ENGINES + "transformers:Transformers",
            HUGGINGFACE,
            2 * _STATE_ELEMENTS,
            "model.safetensors",
            source="",
            options={"compiled": compiled},
        )
