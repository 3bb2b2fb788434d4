"""External data of an ONNX file: other files of the model's own folder, and nothing else."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from hetc.errors import InputError
from hetc.ir.types import Array

_MAX_BYTES = 2**50


def map_external(
    entries: Mapping[str, str], folder: Path, at: str, dtype: np.dtype, elements: int
) -> Callable[[], Array]:
    """A reader that maps `elements` numbers of `dtype` from the file that an initializer names.

    `entries` are the initializer's own words: location, offset, length. Checked now: the location
    stays inside `folder`, no part of it is a link, the file is a plain file with one name, and it
    is long enough. The reader checks the file that it opened again. Raises InputError: HETC-I303
    for a place that is not allowed, HETC-I304 for a missing or short file.
    """
    path = _confined(entries.get("location", ""), folder, at)
    needed = elements * dtype.itemsize
    offset = _number(entries.get("offset", "0"), at)
    length = _number(entries.get("length", str(needed)), at)
    if length != needed:
        raise InputError(
            "HETC-I304",
            "external data has another length than its tensor",
            at=at,
            expected=f"{needed} bytes",
            found=f"{length} bytes",
        )

    def load() -> Array:
        descriptor = _open(path, at)
        with os.fdopen(descriptor, "rb") as file:
            _check_file(os.fstat(file.fileno()), path, at, offset + needed)
            if not elements:
                return np.zeros(0, dtype)
            stored = dtype.newbyteorder("<") if dtype.isbuiltin == 1 else dtype
            return np.memmap(file, stored, "r", offset, (elements,))

    try:
        status = os.lstat(path)
    except OSError as error:
        raise _unreadable(path, at, error) from error
    _check_file(status, path, at, offset + needed)
    return load


def _confined(location: str, folder: Path, at: str) -> Path:
    parts = PurePosixPath(location).parts
    # A file may be made on another system: Windows' separators and drives are refused everywhere.
    foreign = PureWindowsPath(location)
    leaves = ".." in parts or ".." in foreign.parts or foreign.drive or foreign.root
    if not parts or leaves or "\0" in location or PurePosixPath(location).is_absolute():
        raise _elsewhere(at, f"the location {location!r}")
    path = folder
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise _elsewhere(at, f"{path.name} is a symbolic link")
    return path


def _open(path: Path, at: str) -> int:
    try:
        # The path was checked when the model was loaded; a link put there since is refused too.
        return os.open(
            path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        )
    except OSError as error:
        raise _unreadable(path, at, error) from error


def _check_file(status: os.stat_result, path: Path, at: str, end: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _elsewhere(at, f"{path.name} is not a plain file")
    if status.st_nlink > 1:
        raise _elsewhere(
            at, f"{path.name} is a hard link: the same file has {status.st_nlink} names"
        )
    if end > status.st_size:
        raise InputError(
            "HETC-I304",
            "a file with external data is too short",
            at=f"{path.name}, for {at}",
            expected=f"at least {end} bytes",
            found=f"{status.st_size} bytes",
            do="download or export the file again",
        )


def _number(text: str, at: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
    if not 0 <= value <= _MAX_BYTES:
        raise InputError(
            "HETC-I304", "external data has no valid offset or length", at=at, found=text[:40]
        )
    return value


def _elsewhere(at: str, found: str) -> InputError:
    return InputError(
        "HETC-I303",
        "external data must be a plain file inside the model's folder",
        at=at,
        expected="a relative path without '..', and no link",
        found=found,
        do="copy the model and its data files (not links to them) into one folder",
    )


def _unreadable(path: Path, at: str, error: OSError) -> InputError:
    return InputError(
        "HETC-I304",
        "a file with external data cannot be read",
        at=f"{path.name}, for {at}",
        found=error.strerror or str(error),
        do="put it beside the .onnx file",
    )
