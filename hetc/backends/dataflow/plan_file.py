"""Plans as JSON: canonical bytes out, strict reading in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from hetc.backends.dataflow.part import Part
from hetc.backends.dataflow.schema import SCHEMA, Plan, Request
from hetc.errors import InputError

MAX_PLAN_BYTES = 64 * 2**20
_WIDTH = 160
P = TypeVar("P", bound=Part)


def plan_bytes(plan: Plan) -> bytes:
    """The plan as JSON, a line for what fits on one; the same plan gives the same bytes."""
    return "\n".join(_lines(msgspec.to_builtins(plan), "")).encode() + b"\n"


def _lines(value: Any, indent: str) -> Iterator[str]:
    short = msgspec.json.encode(value).decode()
    if len(indent) + len(short) <= _WIDTH or not isinstance(value, dict | list | tuple):
        yield indent + short
        return
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    yield indent + opening
    items = value.items() if isinstance(value, dict) else ((None, item) for item in value)
    parts = [list(_entry(key, item, f"{indent} ")) for key, item in items]
    for part in parts[:-1]:
        part[-1] += ","
    yield from (line for part in parts for line in part)
    yield indent + closing


def _entry(key: str | None, item: Any, indent: str) -> Iterator[str]:
    lines = _lines(item, indent)
    if key is not None:
        yield f"{indent}{msgspec.json.encode(key).decode()}:{next(lines).removeprefix(indent)}"
    yield from lines


def read_plan(data: bytes, at: str) -> Plan:
    """The plan in `data`; raises InputError HETC-L001 (no plan) or HETC-L002 (another version)."""
    plan = _decode(data, Plan, at)
    if plan.schema != SCHEMA:
        raise InputError(
            "HETC-L002", "a plan of another version", at=at, expected=SCHEMA, found=plan.schema
        )
    return plan


def read_request(path: str | Path) -> Request:
    """What a user fixed, from a JSON file; raises InputError HETC-L001."""
    return _decode(read_file(Path(path)), Request, str(path))


def read_file(path: Path) -> bytes:
    """The bytes of a plan or request; raises InputError HETC-L001 where they cannot be had."""
    try:
        if path.is_dir():
            raise InputError(
                "HETC-L001",
                "a directory is no plan",
                at=str(path),
                expected="a bundle, or a plan in a JSON file",
            )
        if path.stat().st_size > MAX_PLAN_BYTES:
            raise InputError(
                "HETC-L001",
                "too large for a plan",
                at=str(path),
                expected=f"{MAX_PLAN_BYTES} bytes",
            )
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            "HETC-L001", "the file cannot be read", at=str(path), found=error.strerror
        ) from error


def _decode(data: bytes, kind: type[P], at: str) -> P:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            "HETC-L001", f"not a {kind.__name__.lower()}", at=at, found=error
        ) from error
