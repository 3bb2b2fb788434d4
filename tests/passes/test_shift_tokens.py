"""Shifts along the tokens become convolutions; others stay."""

from __future__ import annotations

import pytest

from tests.golden import Golden
from tests.passes.harness import cases, check


@pytest.mark.parametrize("case", cases("shift-tokens"))
def test_golden(case: str, golden: Golden) -> None:
    check("shift-tokens", case, golden)
