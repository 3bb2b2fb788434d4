"""Attention in the forms that models write it in."""

from __future__ import annotations

import pytest

from tests.golden import Golden
from tests.passes.harness import cases, check


@pytest.mark.parametrize("case", cases("lift-attention"))
def test_golden(case: str, golden: Golden) -> None:
    check("lift-attention", case, golden)
