"""Launch plans as files: the same bytes for the same plan, and strict reading."""

from __future__ import annotations

import pytest

from hetc.bundle.launches import SCHEMA, LaunchPlan
from hetc.bundle.launches_file import MAX_LAUNCHES_BYTES, launches_bytes, read_launches
from hetc.errors import BundleError

PLAN = LaunchPlan(
    schema=SCHEMA,
    triton="3.9.0",
    ptxas="13.4",
    max_tokens=64,
    kernels={},
    buffers=(),
    arena_bytes="0",
    weights=(),
    weight_bytes=0,
    states=(),
    state_bytes="0",
    logits="logits",
    launches=(),
)


def test_a_plan_is_read_as_it_was_written() -> None:
    assert read_launches(launches_bytes(PLAN)) == PLAN
    assert launches_bytes(read_launches(launches_bytes(PLAN))) == launches_bytes(PLAN)


@pytest.mark.parametrize(
    ("change", "code", "found"),
    [
        (lambda raw: raw[:-20], "HETC-B002", "truncated"),
        (lambda raw: b"\xff" + raw, "HETC-B002", "malformed"),
        (lambda raw: raw.replace(b'"logits"', b'"logit"', 1), "HETC-B002", "logit"),
        (lambda raw: raw.replace(b"64", b"0"), "HETC-B002", "max_tokens"),
        (lambda raw: raw.replace(b"launches/3", b"launches/9"), "HETC-B003", "hetc.launches/9"),
        (lambda raw: raw + b" " * MAX_LAUNCHES_BYTES, "HETC-B002", "bytes"),
    ],
)
def test_another_file_is_refused(change: object, code: str, found: str) -> None:
    assert callable(change)
    with pytest.raises(BundleError) as error:
        read_launches(change(launches_bytes(PLAN)))
    assert error.value.code == code
    assert found in error.value.found
