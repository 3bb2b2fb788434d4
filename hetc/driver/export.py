"""Write a plan in another tool's words, and files into folders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hetc.backends.dataflow.exports import export
from hetc.backends.dataflow.fabric import fabric_of
from hetc.driver.lint import open_plan
from hetc.driver.machine import machine_of
from hetc.errors import UsageError


def export_path(
    path: Path, format: str, output: Path, target: str | None = None
) -> Mapping[Path, int]:
    """Write the plan at `path`, a bundle or a plan file, in one of the formats of `export`.

    One file is written to `output`, several into a folder of that name. Answers their sizes in
    bytes. Raises what `open_plan`, `machine_of`, `export` and `write_files` do.
    """
    plan, _ = open_plan(path)
    files = export(plan, fabric_of(machine_of(plan, target)), format)
    if len(files) == 1:
        (text,) = files.values()
        return write_files({output: text.encode()})
    return write_files({output / name: text.encode() for name, text in files.items()})


def write_files(files: Mapping[Path, bytes]) -> Mapping[Path, int]:
    """Write all of `files`, with the folder in which they are, and answer their sizes.

    Each is there whole or not at all. Raises UsageError HETC-U014 where the file system refuses.
    """
    for path, data in files.items():
        try:
            _write(path, data)
        except OSError as error:
            raise UsageError(
                "HETC-U014", "the file cannot be written", at=str(path), found=error.strerror
            ) from error
    return {path: len(data) for path, data in files.items()}


def _write(path: Path, data: bytes) -> None:
    """Through a file beside it, which takes its name at the end."""
    path.parent.mkdir(exist_ok=True)
    if path.exists() and not path.is_file():
        # A device or a pipe takes it as it comes; a folder refuses.
        path.write_bytes(data)
        return
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
