"""Models from ONNX files: stateless decoders, and decoders that carry their cache themselves."""

from __future__ import annotations

from pathlib import Path

from hetc.frontends.onnx import import_onnx, load_onnx
from hetc.ir.model import CarriedState, Model
from hetc.passes.retype import float_dtype


def open_onnx(path: Path) -> Model:
    """The model of an `.onnx` file; external data stays memory-mapped."""
    imported = import_onnx(load_onnx(path), path)
    return Model(
        name=path.stem,
        family="onnx",
        graph=imported.graph,
        weights=imported.weights,
        dtype=float_dtype(imported.graph),
        max_context=imported.max_sequence or 2**31,
        carried=tuple(CarriedState(past, present) for past, present in imported.pasts),
        opaque=imported.opaque,
        notes=imported.notes,
    )
