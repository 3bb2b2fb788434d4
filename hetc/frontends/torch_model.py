"""Models from torch: an ExportedProgram in memory, a `.pt2` file, a traced GraphModule."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hetc.frontends.fx import import_fx
from hetc.frontends.torch_export import ImportedGraph, import_exported, load_pt2
from hetc.ir.model import Model
from hetc.ir.types import BF16, F16, F32, DType

if TYPE_CHECKING:
    import torch


def open_pt2(path: Path) -> Model:
    """The model of a `.pt2` file, loaded without unpickling anything but tensors."""
    return _model(import_exported(load_pt2(path), source=str(path)), path.stem)


def model_from_exported(program: torch.export.ExportedProgram) -> Model:
    """The model of an exported program; its weights stay where they are."""
    return _model(import_exported(program), "exported")


def model_from_fx(module: torch.fx.GraphModule, example_inputs: tuple[Any, ...]) -> Model:
    """The model of a traced module, exported again on its example inputs so that its sizes are
    symbols."""
    return _model(import_fx(module, example_inputs), type(module).__name__.lower())


def _model(imported: ImportedGraph, name: str) -> Model:
    return Model(
        name=name,
        family="torch",
        graph=imported.graph,
        weights=imported.weights,
        dtype=main_dtype(imported),
        max_context=imported.max_sequence or 2**31,
        opaque=imported.opaque,
        notes=imported.notes,
    )


def main_dtype(imported: ImportedGraph) -> DType:
    """The float type that most weight elements have."""
    counts = {F32: 0, BF16: 0, F16: 0}
    for weight in imported.weights.values():
        if weight.dtype in counts:
            elements = 1
            for dim in weight.shape:
                elements *= dim
            counts[weight.dtype] += elements
    return max(counts, key=lambda dtype: counts[dtype])
