"""Models from torch: an ExportedProgram in memory, a `.pt2` file, a traced GraphModule."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hetc.errors import Reason
from hetc.frontends.fx import export_fx
from hetc.frontends.no_phases import ASKED
from hetc.frontends.torch_export import (
    ImportedGraph,
    import_exported,
    import_whole,
    load_pt2,
    why_no_language_model,
)
from hetc.ir.model import Model
from hetc.ir.types import BF16, F16, F32, DType

if TYPE_CHECKING:
    import torch


def open_pt2(path: Path, *, whole: bool = False) -> Model:
    """The model of a `.pt2` file, loaded without unpickling anything but tensors."""
    return _model(load_pt2(path), path.stem, str(path), whole)


def model_from_exported(program: torch.export.ExportedProgram, *, whole: bool = False) -> Model:
    """The model of an exported program; its weights stay where they are."""
    return _model(program, "exported", "", whole)


def model_from_fx(
    module: torch.fx.GraphModule, example_inputs: tuple[Any, ...], *, whole: bool = False
) -> Model:
    """The model of a traced module, exported again on its example inputs so that its sizes are
    symbols."""
    return _model(export_fx(module, example_inputs), type(module).__name__.lower(), "", whole)


def _model(program: torch.export.ExportedProgram, name: str, source: str, whole: bool) -> Model:
    """A language model, or where its signature says that it is none, or `whole` asks for it, a
    model without phases."""
    no_phases = ASKED if whole else why_no_language_model(program)
    if no_phases is None:
        imported = import_exported(program, source=source)
        return _from(imported, name, imported.max_sequence or 2**31, None)
    return _from(import_whole(program, source=source), name, 0, no_phases)


def _from(imported: ImportedGraph, name: str, max_context: int, no_phases: Reason | None) -> Model:
    return Model(
        name=name,
        family="torch",
        graph=imported.graph,
        weights=imported.weights,
        dtype=main_dtype(imported),
        max_context=max_context,
        opaque=imported.opaque,
        notes=imported.notes,
        no_phases=no_phases,
        sizes={} if no_phases is None else imported.sizes,
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
