"""A tiny bundle with every kind of file, and forged safetensors files, for this room's tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from hetc.bundle import (
    BundleWriter,
    Contract,
    Fallback,
    Golden,
    HalfEntry,
    Manifest,
    ModelInfo,
    StateSpec,
    TargetRef,
    ToolInfo,
    Workload,
)
from hetc.bundle.dtypes import BY_NAME
from hetc.bundle.tensor_layout import TensorSource

TENSORS: dict[str, tuple[str, tuple[int, ...]]] = {
    "layers.0.weight": ("bf16", (8, 16)),
    "layers.0.bias": ("f32", (3,)),
    "layers.10.weight": ("f32", (16, 16)),
    "layers.2.scale": ("f16", ()),
    "layers.2.empty": ("f32", (0, 4)),
    "layers.2.ids": ("i64", (5,)),
    "layers.2.mask": ("bool", (7,)),
    "layers.2.fp8": ("f8e4m3", (9,)),
}


def values(name: str) -> np.ndarray[Any, Any]:
    """The values of one tensor of `TENSORS`, a function of its name."""
    dtype, shape = TENSORS[name]
    count = int(np.prod(shape))
    numbers = (np.arange(count) + len(name)) % 2 if dtype == "bool" else np.arange(count)
    return numbers.reshape(shape).astype(BY_NAME[dtype].numpy)


def sources(names: list[str] | None = None) -> list[TensorSource]:
    """The tensors as the writer takes them."""

    def source(name: str) -> TensorSource:
        dtype, shape = TENSORS[name]
        return name, dtype, shape, lambda: values(name)

    return [source(name) for name in names or TENSORS]


def state(name: str, layer: int = 0) -> StateSpec:
    """A grouped key or value cache."""
    return StateSpec(
        name=name,
        layer=layer,
        kind="kv",
        shape=("B", 3, "P", 64),
        dtype="f32",
        append_axis=2,
        keep=None,
        producer_layout="B,3,P,64",
        consumer_layout="B,3,P,64",
        heads=3,
    )


CONTRACT = Contract(1, 2048, (state("layers.0.k"), state("layers.0.v")))

MANIFEST = Manifest(
    tool=ToolInfo("hetc", "0.1.0"),
    kind="runnable",
    model=ModelInfo("tiny", "llama", 1000, 1, 256, 2048, "bf16"),
    workload=Workload(1, 1024, 512, 128),
    targets={"prefill": TargetRef("h200", "a" * 64), "decode": TargetRef("sn40l", "b" * 64)},
    halves={
        "prefill": HalfEntry(
            "prefill/graph.hetc", "prefill/model.onnx", ("layers.0.k.out", "layers.0.v.out")
        ),
        "decode": HalfEntry("decode/graph.hetc", None, ("layers.0.k", "layers.0.v")),
    },
    executors=("onnx", "reference"),
    golden=Golden(4, 2),
    summary=("tiny    llama · 1 layer",),
    fallbacks=(Fallback("HETC-P012", "layers.0.topk", "no kernel for it"),),
)


def fill(writer: BundleWriter, *, reverse: bool = False) -> None:
    """Writes every file of the tiny bundle, in either order."""
    texts = {
        "prefill/graph.hetc": b"graph @prefill() {}\n",
        "prefill/model.onnx": bytes(range(200)),
        "decode/graph.hetc": b"graph @decode() {}\n",
        "handoff.json": CONTRACT.to_bytes(),
        "tokenizer/tokenizer.json": b"{}\n",
        "README.md": b"# tiny\n",
    }
    for name, data in sorted(texts.items(), reverse=reverse):
        writer.write_bytes(name, data)
    writer.write_json("decisions.json", {"schema": "hetc.decisions/1", "ops": [1.5, "×"]})
    listed = sources()
    writer.write_tensors("weights/model.safetensors", listed[::-1] if reverse else listed)


def make_bundle(
    path: Path,
    *,
    overwrite: bool = False,
    reverse: bool = False,
    manifest: Manifest = MANIFEST,
    extra: tuple[str, ...] = (),
) -> Path:
    """The tiny bundle, committed at `path`."""
    with BundleWriter(path, overwrite=overwrite) as writer:
        fill(writer, reverse=reverse)
        for name in extra:
            writer.write_bytes(name, name.encode())
        writer.commit(manifest)
    return path


def tree(root: Path) -> dict[str, bytes]:
    """Every file below `root` and its bytes."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def forge(path: Path, header: object, data: bytes = b"", *, length: int | None = None) -> Path:
    """A safetensors file with any header (JSON value or raw bytes) and any announced length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    announced = len(text) if length is None else length
    path.write_bytes(announced.to_bytes(8, "little") + text + data)
    return path
