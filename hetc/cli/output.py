"""What commands print: JSON objects, tables as wide as the terminal, progress."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from hetc.cli.lazy import report
from hetc.errors import HetcError, UsageError

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object and nothing else (docs/cli.md)."
)


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout; numbers that are not finite become null."""
    click.echo(json.dumps(_plain(value), indent=2, allow_nan=False))


def print_files(written: Mapping[Path, int], *, as_json: bool) -> None:
    """The files that a command wrote, with their sizes in bytes."""
    if as_json:
        files = [{"path": str(path), "bytes": size} for path, size in written.items()]
        print_json({"files": files})
        return
    columns = [report.Column("file"), report.Column("bytes", right=True)]
    rows = [[str(path), f"{size:,}"] for path, size in written.items()]
    click.echo(report.table(columns, rows))


def print_error(error: HetcError, *, as_json: bool, report: str = "") -> None:
    """The error on stderr, or as an object on stdout; `report` is the file to attach to a report of
    a fault of hetc."""
    if as_json:
        print_json({"error": error.as_json() | ({"report": report} if report else {})})
        return
    notes = [f"  note: {note}" for note in getattr(error, "__notes__", ())]
    attached = [f"  report: {report}"] if report else []
    click.echo("\n".join([error.render(), *notes, *attached]), err=True)


def table_width() -> int | None:
    """Columns of the terminal that reads stdout; None for a pipe or a file, which take any."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def read_stdin() -> str:
    """All of stdin as text; raises UsageError (HETC-U007) where it is none."""
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise not_text("stdin", error) from error


def not_text(place: str, error: UnicodeDecodeError) -> UsageError:
    """The error for bytes that are no text."""
    return UsageError("HETC-U007", "this is not UTF-8 text", at=place, found=error.reason)


class Progress:
    """Shows the step of a long work in one line of stderr; on a terminal only. A context manager:
    the line is gone at the end."""

    def __init__(self, *, wanted: bool = True) -> None:
        self._shown = wanted and sys.stderr.isatty()

    def __call__(self, step: str) -> None:
        if self._shown:
            click.echo(f"\r\x1b[K{step} …", nl=False, err=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            click.echo("\r\x1b[K", nl=False, err=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
