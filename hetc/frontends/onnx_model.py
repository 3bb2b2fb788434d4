"""Models from ONNX files: stateless decoders, decoders that carry their cache themselves, and
functions of any inputs and outputs."""

from __future__ import annotations

from pathlib import Path

from hetc.frontends.no_phases import ASKED
from hetc.frontends.onnx import import_onnx, import_whole, load_onnx, why_no_language_model
from hetc.ir.model import CarriedState, Model
from hetc.passes.retype import float_dtype


def open_onnx(path: Path, *, whole: bool = False) -> Model:
    """The model of an `.onnx` file; external data stays memory-mapped.

    It has no phases where its inputs and outputs are no language model's, or `whole` asks for it.
    """
    message = load_onnx(path)
    no_phases = ASKED if whole else why_no_language_model(message.graph)
    if no_phases is None:
        imported = import_onnx(message, path)
        longest = imported.max_sequence or 2**31
    else:
        imported = import_whole(message, source=str(path))
        longest = 0
    return Model(
        name=path.stem,
        family="onnx",
        graph=imported.graph,
        weights=imported.weights,
        dtype=float_dtype(imported.graph),
        max_context=longest,
        carried=tuple(CarriedState(past, present) for past, present in imported.pasts),
        opaque=imported.opaque,
        notes=imported.notes,
        no_phases=no_phases,
        sizes=imported.sizes,
    )
