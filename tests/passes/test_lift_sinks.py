"""Sinks that are written as a scale of what attention gives."""

from __future__ import annotations

import pytest

from tests.golden import Golden
from tests.passes.harness import cases, check


@pytest.mark.parametrize("case", cases("lift-sinks"))
def test_golden(case: str, golden: Golden) -> None:
    check("lift-sinks", case, golden)
