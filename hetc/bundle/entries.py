"""The parts of a manifest that stand for themselves: who wrote it, the model, its files.

Each reads itself strictly from the fields of JSON; `hetc.bundle.schema` puts them together.
"""

from __future__ import annotations

from dataclasses import dataclass

from hetc.bundle.fields import Fields


@dataclass(frozen=True)
class ToolInfo:
    """The program that wrote the bundle."""

    name: str
    version: str

    @classmethod
    def read(cls, f: Fields) -> ToolInfo:
        """Reads `tool`."""
        return cls(f.text("name"), f.text("version"))


@dataclass(frozen=True)
class ModelInfo:
    """What was compiled: parameters counted, max_context in tokens, dtype of the stored weights.

    A model without phases has 0 for what it does not have.
    """

    name: str
    family: str
    parameters: int
    layers: int
    vocab: int
    max_context: int
    dtype: str

    @classmethod
    def read(cls, f: Fields) -> ModelInfo:
        """Reads `model`."""
        return cls(
            name=f.text("name"),
            family=f.text("family"),
            parameters=f.integer("parameters"),
            layers=f.integer("layers"),
            vocab=f.integer("vocab"),
            max_context=f.integer("max_context"),
            dtype=f.text("dtype"),
        )


@dataclass(frozen=True)
class Workload:
    """What the cut was made for: sequences at once, and lengths in tokens."""

    batch: int
    context: int
    prompt_tokens: int
    new_tokens: int

    @classmethod
    def read(cls, f: Fields) -> Workload:
        """Reads `workload`."""
        counts = ("batch", "context", "prompt_tokens", "new_tokens")
        return cls(*(f.integer(key, low=1) for key in counts))


@dataclass(frozen=True)
class TargetRef:
    """A target by name and by the hash of its file's contents."""

    name: str
    sha256: str

    @classmethod
    def read(cls, f: Fields) -> TargetRef:
        """Reads `targets.<phase>`."""
        return cls(f.text("name"), f.sha256("sha256"))


@dataclass(frozen=True)
class HalfEntry:
    """The files of one half, and its state tensors in hand-off order.

    `states` is `state_outputs` of the prefill half and `state_inputs` of the decode half. A decode
    half for a spatial target has its `plan`, and the graph of one `socket` that the plan is of.
    """

    graph: str
    onnx: str | None
    states: tuple[str, ...]
    plan: str | None = None
    socket: str | None = None


@dataclass(frozen=True)
class Golden:
    """How many tokens the golden vectors prefill, and how many they decode."""

    prefill_tokens: int
    decode_tokens: int

    @classmethod
    def read(cls, f: Fields) -> Golden:
        """Reads `golden`."""
        return cls(f.integer("prefill_tokens", low=1), f.integer("decode_tokens", low=1))


@dataclass(frozen=True)
class Fallback:
    """One op that did not get its first choice: reason code, op, reason."""

    code: str
    op: str
    reason: str

    @classmethod
    def read(cls, f: Fields) -> Fallback:
        """Reads one entry of `fallbacks`."""
        return cls(f.text("code"), f.text("op"), f.text("reason"))


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and SHA-256 of one file."""

    size: int
    sha256: str

    @classmethod
    def read(cls, f: Fields) -> FileEntry:
        """Reads `files.<name>`."""
        return cls(f.integer("size"), f.sha256("sha256"))
