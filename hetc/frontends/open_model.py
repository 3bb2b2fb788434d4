"""Open whatever the user names: a path or an object, told apart by what it is, not by how it is
called where that can be seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from hetc.errors import InputError
from hetc.frontends.configured import open_directory, open_gguf
from hetc.frontends.onnx_model import open_onnx
from hetc.frontends.torch_model import model_from_exported, model_from_fx, open_pt2
from hetc.ir.dims import evaluate, symbols_of
from hetc.ir.model import Model

if TYPE_CHECKING:
    import torch

# NumPy's own bound on axes, and a petabyte.
_MAX_RANK, _MAX_ELEMENTS = 64, 2**48

ModelInput = Union[
    str, Path, "torch.export.ExportedProgram", "tuple[torch.fx.GraphModule, tuple[Any, ...]]"
]


def open_model(source: Any, *, whole: bool = False) -> Model:
    """The model behind a path or object.

    A model whose inputs and outputs are no language model's is opened as one function, and says
    why (`Model.no_phases`); `whole` asks for that whatever it is.

    Takes a Hugging Face directory, a `.gguf`, `.pt2` or `.onnx` file, an ExportedProgram, or a pair
    (GraphModule, example inputs). Raises InputError: HETC-I001 (missing), HETC-I002 (not a model),
    HETC-I012 (absurd sizes), and those of the frontends.
    """
    model = _opened(source, whole)
    _require_sane(model)
    return model


def _require_sane(model: Model) -> None:
    """Refuse shapes that nothing can compute with (HETC-I012), before anything is made of them."""
    values = (*model.graph.inputs, *(value for op in model.graph.ops for value in op.results))
    for value in values:
        size = value.type.size
        least = evaluate(size, dict.fromkeys(symbols_of(size), 1))
        if value.rank > _MAX_RANK or least > _MAX_ELEMENTS:
            raise InputError(
                "HETC-I012",
                "the model has a tensor that is too large for any machine",
                at=value.name or (value.op.loc if value.op is not None else ""),
                expected=f"at most {_MAX_RANK} axes and {_MAX_ELEMENTS:,} elements",
                found=f"{value.rank} axes, about 2**{max(least, 1).bit_length() - 1} elements",
                do="check the shapes in the file, which may be damaged",
            )


def _opened(source: Any, whole: bool) -> Model:
    if isinstance(source, (str, Path)):
        return _from_path(Path(source), whole)
    kind = type(source).__name__
    if kind == "ExportedProgram":
        return model_from_exported(source, whole=whole)
    if isinstance(source, tuple) and len(source) == 2 and hasattr(source[0], "graph"):
        return model_from_fx(*source, whole=whole)
    raise InputError(
        "HETC-I002",
        "this object is not a model",
        expected="a path, an ExportedProgram, or (torch.fx.GraphModule, example_inputs)",
        found=kind,
        do="export the module first: torch.export.export(module, (tokens,), dynamic_shapes=...)",
    )


def _from_path(path: Path, whole: bool) -> Model:
    if not _exists(path):
        raise InputError(
            "HETC-I001", "no such file or directory", at=str(path), do="check the path of the model"
        )
    if path.is_dir():
        return open_directory(path, whole=whole)
    if not path.is_file():
        raise InputError(
            "HETC-I002", "this is neither a file nor a directory", at=str(path), found="a device"
        )
    head = _first_bytes(path)
    if head.startswith(b"GGUF") or path.suffix == ".gguf":
        return open_gguf(path, whole=whole)
    if head.startswith(b"PK") or path.suffix == ".pt2":
        return open_pt2(path, whole=whole)
    if path.suffix == ".onnx":
        return open_onnx(path, whole=whole)
    raise InputError(
        "HETC-I002",
        "this file is not a model that hetc reads",
        at=str(path),
        expected="a Hugging Face directory, or a .gguf, .pt2 or .onnx file",
        found=f"a file that begins with {head[:8]!r}" if head else "an empty file",
        do="convert or export the model to one of these forms",
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise InputError(
            "HETC-I001", "the path cannot be looked up", at=str(path), found=error.strerror or ""
        ) from error


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(8)
    except OSError as error:
        raise InputError(
            "HETC-I001", "the file cannot be read", at=str(path), found=error.strerror or ""
        ) from error
