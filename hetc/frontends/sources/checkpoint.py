"""The weight files of a Hugging Face directory, as named tensors that stay on disk.

safetensors (one file, or shards with an index) and torch's own zip format, the latter with
`weights_only`: nothing is ever unpickled into code.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from hetc.errors import InputError
from hetc.frontends.sources.libraries import first_line

if TYPE_CHECKING:
    import torch

_TORCH_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a weight file, under the file's own name."""

    key: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], torch.Tensor]


def read_checkpoint(directory: Path) -> dict[str, StoredTensor] | None:
    """Every tensor of the directory's checkpoint; None where it has no weight file at all.

    Errors: HETC-I056 (damaged file), HETC-I057 (missing shard, bad index), HETC-I058 (a pickle that
    needs more than weights).
    """
    for name, read in (("model.safetensors", _safetensors), ("pytorch_model.bin", _torch_file)):
        if (directory / name).is_file():
            return read(directory / name)
        if (directory / f"{name}.index.json").is_file():
            return _sharded(directory / f"{name}.index.json", read)
    stray = sorted(
        path.name for path in directory.iterdir() if path.suffix in (".safetensors", ".bin", ".pt")
    )
    if stray:
        raise InputError(
            "HETC-I057",
            "the directory has weight files but not the one that says what is in them",
            at=str(directory),
            expected="model.safetensors or model.safetensors.index.json",
            found=", ".join(stray[:4]),
            do="copy the missing file, or remove the weight files to plan without weights",
        )
    return None


def _sharded(
    index: Path, read: Callable[[Path], dict[str, StoredTensor]]
) -> dict[str, StoredTensor]:
    weight_map = _weight_map(index)
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted(set(weight_map.values())):
        path = index.parent / shard
        if not path.is_file():
            raise InputError(
                "HETC-I057",
                "a shard of the checkpoint is missing",
                at=str(index),
                expected=shard,
                found="no such file",
                do="download the whole checkpoint again",
            )
        stored = read(path)
        for key in stored:
            if weight_map.get(key, shard) != shard or key in tensors:
                raise _bad_index(index, f"{key} is in {shard}", f"{weight_map.get(key)}")
        tensors |= stored
    if absent := sorted(weight_map.keys() - tensors.keys()):
        raise _bad_index(index, f"{absent[0]} in {weight_map[absent[0]]}", "it is not there")
    return tensors


def _weight_map(index: Path) -> Mapping[str, str]:
    try:
        weight_map = json.loads(index.read_bytes())["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _bad_index(index, "a JSON object with weight_map", first_line(error)) from error
    if not isinstance(weight_map, dict) or not weight_map:
        raise _bad_index(index, "weight_map from tensor to file name", type(weight_map).__name__)
    for shard in weight_map.values():
        # A shard name is joined to the directory: it must not lead out of it.
        if not isinstance(shard, str) or Path(shard).name != shard or shard in ("", ".", ".."):
            raise _bad_index(index, "plain file names", repr(shard))
    return weight_map


def _bad_index(index: Path, expected: str, found: str) -> InputError:
    return InputError(
        "HETC-I057",
        "the checkpoint's index does not describe its shards",
        at=str(index),
        expected=expected,
        found=found,
        do="download the whole checkpoint again",
    )


def _safetensors(path: Path) -> dict[str, StoredTensor]:
    import torch

    try:
        # The handle maps the file; it lives as long as a tensor's loader does.
        handle: Any = safe_open(path, framework="pt")
        slices = {key: handle.get_slice(key) for key in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error

    tensors: dict[str, StoredTensor] = {}
    for key, view in slices.items():
        stored = view.get_dtype()
        if stored not in _TORCH_NAMES:
            raise InputError(
                "HETC-I056",
                "a tensor has an element type that hetc does not read",
                at=f"{path.name}: {key}",
                expected=", ".join(sorted(_TORCH_NAMES)),
                found=stored,
                do="save the model in bf16, f16 or f32",
            )
        tensors[key] = StoredTensor(
            key,
            tuple(view.get_shape()),
            getattr(torch, _TORCH_NAMES[stored]),
            _reader(handle, key, path),
        )
    return tensors


def _reader(handle: Any, key: str, path: Path) -> Callable[[], torch.Tensor]:
    def load() -> torch.Tensor:
        try:
            tensor: torch.Tensor = handle.get_tensor(key)
        except (SafetensorError, OSError) as error:
            raise _damaged(path, error) from error
        return tensor

    return load


def _torch_file(path: Path) -> dict[str, StoredTensor]:
    import torch

    try:
        # Files of before torch 1.6 are no zip and cannot be mapped.
        mapped = zipfile.is_zipfile(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise InputError(
            "HETC-I058",
            "the checkpoint is a pickle that holds more than weights, and is not loaded",
            at=str(path),
            expected="tensors only (torch.load with weights_only=True)",
            found=_refused_global(error),
            do="save the model as safetensors: model.save_pretrained(directory)",
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise _damaged(path, error) from error
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise InputError(
            "HETC-I058",
            "the checkpoint is not a state dict",
            at=str(path),
            expected="a mapping from names to tensors",
            found=type(state).__name__,
            do="save model.state_dict(), or use save_pretrained",
        )
    return {key: _in_memory(key, tensor) for key, tensor in state.items()}


def _refused_global(error: pickle.UnpicklingError) -> str:
    """What was refused, without torch's advice on how to load it anyway."""
    lines = (line.strip() for line in str(error).splitlines())
    refused = (line for line in lines if line.startswith("WeightsUnpickler error: "))
    text = next(refused, first_line(error)).removeprefix("WeightsUnpickler error: ")
    return text.split(". ")[0]


def _in_memory(key: str, tensor: torch.Tensor) -> StoredTensor:
    return StoredTensor(key, tuple(tensor.shape), tensor.dtype, lambda: tensor)


def _damaged(path: Path, error: BaseException) -> InputError:
    return InputError(
        "HETC-I056",
        "a weight file is damaged or truncated",
        at=str(path),
        found=first_line(error),
        do="download or save it again",
    )
