"""The tensors and metadata of a GGUF file, by the readers of transformers and of `gguf`.

transformers' reader takes a tenth of a second where `gguf`'s takes three, most of it for the
vocabulary; it knows fewer quantized types, so `gguf` reads the files that it refuses.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hetc.errors import InputError
from hetc.frontends.sources.libraries import first_line
from hetc.frontends.sources.model_source import Array

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType

# What both readers raise on bytes that make no sense; they have no error classes of their own.
MALFORMED = (
    struct.error,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
)
# Kinds of tensors that are not quantized.
FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class GGUFTensor:
    """A tensor as the file stores it: `blocks` is mapped, and not yet values where `kind` says so.

    `shape` is in torch's order, slowest dimension first.
    """

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    blocks: Array

    def values(self) -> Array:
        """The dequantized values, f32, in the file's shape."""
        from gguf.quants import dequantize

        dequantized: Array = dequantize(self.blocks, self.kind)
        return dequantized.reshape(self.shape)


@dataclass(frozen=True)
class GGUFFile:
    """A GGUF file's metadata (arrays of strings as their lengths) and tensors by name."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GGUFTensor]


def read_gguf(path: Path) -> GGUFFile:
    """Read the header of a GGUF file and map its tensors.

    Errors: HETC-I064 (not a GGUF file), HETC-I065 (damaged or truncated), HETC-I067 (a tensor type
    that cannot be dequantized).
    """
    from transformers.integrations.gguf import read_gguf_metadata

    _require_magic(path)
    try:
        metadata, _ = read_gguf_metadata(str(path))
        tensors = _mapped(path)
    except MALFORMED as error:
        raise damaged(path, error) from error
    _require_known_types(tensors, path)
    return GGUFFile(path, metadata, tensors)


def damaged(path: Path, error: BaseException) -> InputError:
    return InputError(
        "HETC-I065",
        "the GGUF file is damaged or truncated",
        at=str(path),
        found="its end, in the header" if isinstance(error, struct.error) else first_line(error),
        do="download it again",
    )


def _require_magic(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise InputError(
            "HETC-I064", "the file cannot be read", at=str(path), found=error.strerror or str(error)
        ) from error
    if magic != b"GGUF":
        raise InputError(
            "HETC-I064",
            "the file is not a GGUF file",
            at=str(path),
            expected="the bytes 'GGUF' at its start",
            found=repr(magic)[1:] if magic else "an empty file",
        )


def _mapped(path: Path) -> dict[str, GGUFTensor]:
    from transformers.integrations.gguf import GgufHeader

    try:
        header = GgufHeader.from_file(str(path))
    except ValueError:
        return _mapped_by_gguf(path)
    data = np.memmap(path, mode="r", dtype=np.uint8)
    return {info.name: _from_header(info, data, header.data_start) for info in header.tensors}


def _from_header(info: Any, data: Array, start: int) -> GGUFTensor:
    from gguf import GGMLQuantizationType
    from gguf.constants import GGML_QUANT_SIZES

    kind = GGMLQuantizationType(info.ggml_type)
    begin = start + info.offset
    stored = data[begin : begin + info.nbytes]
    if len(stored) != info.nbytes:
        raise ValueError(f"{info.name} ends {info.nbytes - len(stored)} bytes after the file")
    plain = {"F32": np.float32, "F16": np.float16}.get(kind.name)
    if plain is not None:
        return GGUFTensor(info.name, info.shape, kind, stored.view(plain).reshape(info.shape))
    elements, size = GGML_QUANT_SIZES[kind]
    rows = (*info.shape[:-1], info.shape[-1] // elements * size)
    return GGUFTensor(info.name, info.shape, kind, stored.reshape(rows))


def _mapped_by_gguf(path: Path) -> dict[str, GGUFTensor]:
    from gguf import GGUFReader

    return {
        tensor.name: GGUFTensor(
            tensor.name,
            tuple(int(dim) for dim in reversed(tensor.shape)),
            tensor.tensor_type,
            tensor.data,
        )
        for tensor in GGUFReader(path).tensors
    }


def _require_known_types(tensors: Mapping[str, GGUFTensor], path: Path) -> None:
    from gguf.constants import GGML_QUANT_SIZES
    from gguf.quants import dequantize

    for kind, name in {tensor.kind: name for name, tensor in tensors.items()}.items():
        try:
            dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
        except (NotImplementedError, KeyError) as error:
            raise InputError(
                "HETC-I067",
                "the gguf package cannot dequantize a tensor's type",
                at=f"{path.name}: {name}",
                found=kind.name,
                do="install a newer gguf package, or requantize the file",
            ) from error
