"""Rotary embeddings in the forms that models write them in."""

from __future__ import annotations

import pytest

from tests.golden import Golden
from tests.passes.harness import cases, check


@pytest.mark.parametrize("case", cases("lift-rope"))
def test_golden(case: str, golden: Golden) -> None:
    check("lift-rope", case, golden)
