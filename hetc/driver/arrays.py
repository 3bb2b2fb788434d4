"""Arrays by name in a file, which a call of a bundle without phases takes and gives."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from hetc.driver.export import write_files
from hetc.errors import InputError
from hetc.ir.types import Array

SUFFIXES = (".npz", ".safetensors")


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of an `.npz` or `.safetensors` file; nothing is unpickled.

    Raises InputError (HETC-I016) for another file, and where it cannot be read.
    """
    check_arrays_path(path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: np.asarray(file[name]) for name in file.files}
        return dict(load_file(path))
    # Each of the two formats has its own ways to be damaged.
    except (
        *(ValueError, TypeError, OSError, EOFError, MemoryError, KeyError),
        *(zipfile.BadZipFile, zlib.error, NotImplementedError, SafetensorError),
    ) as error:
        raise _unreadable(path, error) from error


def check_arrays_path(path: Path) -> None:
    """Raise InputError (HETC-I016) for a file of another kind."""
    if path.suffix not in SUFFIXES:
        raise InputError(
            "HETC-I016",
            "arrays are read and written as .npz or .safetensors",
            at=str(path),
            expected=" or ".join(SUFFIXES),
            found=path.suffix or "no suffix",
        )


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write `arrays` to `path`; raises UsageError (HETC-U014) where the file system refuses."""
    if path.suffix == ".npz":
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        data = buffer.getvalue()
    else:
        data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    write_files({path: data})


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        "HETC-I016", "the file of arrays cannot be read", at=str(path), found=str(error)
    )
