"""Launch plans as JSON: canonical bytes out, strict reading in."""

from __future__ import annotations

import msgspec

from hetc.bundle.launches import LAUNCHES_FILE, SCHEMA, LaunchPlan
from hetc.errors import BundleError

MAX_LAUNCHES_BYTES = 64 * 2**20


def launches_bytes(plan: LaunchPlan) -> bytes:
    """The plan as JSON; the same plan gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(plan, order="sorted"), indent=1) + b"\n"


def read_launches(data: bytes, at: str = LAUNCHES_FILE) -> LaunchPlan:
    """The plan in `data`; raises BundleError HETC-B002 (no plan) or HETC-B003 (another version)."""
    if len(data) > MAX_LAUNCHES_BYTES:
        raise BundleError(
            "HETC-B002",
            "this file cannot be read",
            at=at,
            expected=f"at most {MAX_LAUNCHES_BYTES} bytes",
            found=f"{len(data)} bytes",
        )
    try:
        plan = msgspec.json.decode(data, type=LaunchPlan)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(
            "HETC-B002",
            "this is no launch plan",
            at=at,
            expected=f"JSON of the schema {SCHEMA}",
            found=error,
            do="compile the model again",
        ) from error
    if plan.schema != SCHEMA:
        raise BundleError(
            "HETC-B003",
            "a launch plan of another version",
            at=at,
            expected=SCHEMA,
            found=plan.schema,
            do="update hetc, or compile the model again with this version",
        )
    return plan
