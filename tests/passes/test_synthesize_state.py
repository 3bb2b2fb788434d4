"""Prefill and decode from forward, or the reason why not."""

from __future__ import annotations

import pytest

from tests.golden import Golden
from tests.passes.harness import cases, check


@pytest.mark.parametrize("case", cases("synthesize-state"))
def test_golden(case: str, golden: Golden) -> None:
    check("synthesize-state", case, golden)
