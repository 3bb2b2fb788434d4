"""Reading a `.onnx` file without trusting it."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hetc.errors import InputError, MissingDependency
from hetc.frontends.onnx.tensors import weight_data

if TYPE_CHECKING:
    from onnx import ModelProto

# Protobuf's own bound on one message; weights of larger models are external data.
_MAX_BYTES = 2**31 - 1
# ONNX Runtime writes its fused operators under ONNX's own name; the importer judges operators by
# itself.
_UNREGISTERED = re.compile(r"No Op registered for \w+")


def load_onnx(path: str | Path) -> ModelProto:
    """The model in a `.onnx` file, checked; its external data stays on disk and is only looked at.

    Nothing of the model is executed. Raises InputError: HETC-I301 (no such file), HETC-I302 (too
    large for one message), HETC-I305 (not ONNX, or invalid), HETC-I303 and HETC-I304 (external data
    elsewhere or missing), HETC-I315 (a damaged tensor).
    """
    path = Path(path)
    content = _read(path)
    try:
        import onnx

        decode_error = import_module("google.protobuf.message").DecodeError
    except ImportError:
        raise MissingDependency("onnx", "compile", needed_for="reading an ONNX model") from None
    try:
        model = onnx.load_model_from_string(content)
    except (decode_error, ValueError, RuntimeError) as error:
        raise _invalid(path, "the bytes are not an ONNX model", str(error)) from error
    _require_text(model, path)
    if not model.graph.node or not model.opset_import:
        raise _invalid(path, "the file holds no ONNX graph", f"{len(model.graph.node)} nodes")
    for tensor in model.graph.initializer:
        weight_data(tensor, path.parent)
    _check(model, path)
    return model


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise InputError("HETC-I301", "not a file", at=str(path), expected="a .onnx file")
        if size > _MAX_BYTES:
            raise InputError(
                "HETC-I302",
                "the ONNX file is larger than one message may be",
                at=str(path),
                expected=f"at most {_MAX_BYTES} bytes",
                found=f"{size} bytes",
                do="export the model with external data",
            )
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            "HETC-I301",
            "the ONNX file cannot be read",
            at=str(path),
            found=error.strerror or str(error),
        ) from error


def _require_text(model: ModelProto, path: Path) -> None:
    """Refuse names that are no UTF-8: protobuf hands them out as bytes."""
    stack: list[Any] = [model]
    while stack:
        for field, value in stack.pop().ListFields():
            if field.message_type is not None:
                stack.extend(value if field.is_repeated else (value,))
            elif field.type == field.TYPE_STRING:
                for text in value if field.is_repeated else (value,):
                    if not isinstance(text, str):
                        what = "the file holds a name that is no UTF-8 text"
                        raise _invalid(path, what, ascii(text))


def _check(model: ModelProto, path: Path) -> None:
    from onnx import ModelProto, checker

    # The checker copies the message; without the weights, which are checked already, the copy is
    # small.
    slim = ModelProto()
    _copy_without_data(model, slim)
    try:
        checker.check_model(slim)
    except (checker.ValidationError, ValueError, RuntimeError) as error:
        text = str(error)
        if not _UNREGISTERED.search(text):
            raise _invalid(path, "the ONNX model is not valid", text) from error


def _copy_without_data(model: ModelProto, slim: ModelProto) -> None:
    for name, value in model.ListFields():
        if name.name != "graph":
            _assign(slim, name.name, value)
    for name, value in model.graph.ListFields():
        if name.name != "initializer":
            _assign(slim.graph, name.name, value)
    named = {item.name for item in model.graph.input}
    for tensor in model.graph.initializer:
        if tensor.name not in named:
            stub = slim.graph.input.add(name=tensor.name)
            stub.type.tensor_type.elem_type = tensor.data_type
            stub.type.tensor_type.shape.SetInParent()
            for dim in tensor.dims:
                stub.type.tensor_type.shape.dim.add(dim_value=dim)


def _assign(message: object, name: str, value: object) -> None:
    target = getattr(message, name)
    if hasattr(target, "MergeFrom"):
        target.MergeFrom(value)
    else:
        setattr(message, name, value)


def _invalid(path: Path, what: str, found: str) -> InputError:
    return InputError(
        "HETC-I305",
        what,
        at=str(path),
        found=" ".join(found.split())[:200],
        do="export the model again, or check it with onnx.checker",
    )
