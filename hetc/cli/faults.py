"""From exceptions to messages and exit codes.

0 done, 1 a check failed, 2 bad usage or input, 3 a fault of hetc, 130 interrupted, 141 the reader
of a pipe went away.
"""

from __future__ import annotations

import errno
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import click

import hetc
from hetc.cli.output import print_error
from hetc.errors import HetcError, InternalError, UsageError

INTERRUPTED = 130
BROKEN_PIPE = 141
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def guarded(command: Callable[[], int], argv: Sequence[str]) -> int:
    """Run `command` and return its exit code; whatever it raises becomes one clear message."""
    as_json = "--json" in argv
    try:
        code = command()
        sys.stdout.flush()
    except (click.exceptions.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # click turns a broken pipe into SystemExit; nothing else here raises it.
        _close_stdout()
        return BROKEN_PIPE
    except click.ClickException as error:
        code = _tell(_from_click(error), argv, as_json=as_json)
    except HetcError as error:
        code = _tell(error, argv, as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the last resort: no traceback reaches the screen
        if _is_interrupted(error):
            return INTERRUPTED
        if isinstance(error, OSError) and error.errno in _FULL:
            return _told_that_full(error, argv, as_json=as_json)
        fault = InternalError(
            "HETC-Z000",
            "hetc failed, and that is its own fault",
            found=f"{type(error).__name__}: {error}".splitlines()[0][:300],
            do="report it, with the file named below",
        )
        fault.__cause__ = error
        code = _tell(fault, argv, as_json=as_json)
    return code


def _is_interrupted(error: BaseException | None) -> bool:
    """Whether an interrupt lies behind an error: libraries that are interrupted while they are
    imported make errors of their own of it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _told_that_full(error: OSError, argv: Sequence[str], *, as_json: bool) -> int:
    place = error.filename or "standard output"
    full = UsageError(
        "HETC-U008",
        "there is no room for what is written",
        at=str(place),
        found=error.strerror,
        do="make room, or write elsewhere",
    )
    full.__cause__ = error
    if not error.filename:
        _close_stdout()
    return _tell(full, argv, as_json=as_json)


def _tell(error: HetcError, argv: Sequence[str], *, as_json: bool) -> int:
    report = _write_report(error, argv) if error.exit_code == InternalError.exit_code else ""
    print_error(error, as_json=as_json, report=report)
    return error.exit_code


def _from_click(error: click.ClickException) -> UsageError:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "hetc"
    do = f"{command} --help shows what it takes"
    if isinstance(error, click.NoSuchOption):
        near = ", ".join(error.possibilities or ())
        what = f"no such option: {error.option_name}"
        return UsageError("HETC-U002", what, at=command, expected=near, do=do)
    message = error.format_message().rstrip(".")
    return UsageError("HETC-U004", message[:1].lower() + message[1:], at=command, do=do)


def _write_report(error: HetcError, argv: Sequence[str]) -> str:
    """The whole story in a file of its own; the path, or nothing where no file can be written."""
    trace = "".join(traceback.format_exception(error))
    text = (
        f"hetc {hetc.__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"command line: {' '.join(['hetc', *argv])}\n\n{trace}"
    )
    try:
        handle, name = tempfile.mkstemp(prefix="hetc-report-", suffix=".txt")
        os.close(handle)
        Path(name).write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError:
        # The error itself is told all the same.
        return ""
    return name


def _close_stdout() -> None:
    """Keep the interpreter's own flush at exit from failing once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
