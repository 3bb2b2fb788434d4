"""Plans as JSON: canonical bytes out, strict reading in."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from hetc.backends.dataflow.schema import SCHEMA, Part, Plan, Request
from hetc.errors import InputError

MAX_PLAN_BYTES = 64 * 2**20
P = TypeVar("P", bound=Part)


def plan_bytes(plan: Plan) -> bytes:
    """The plan as JSON, one line a small object; the same plan gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n"


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
