"""Activations and gated MLPs written out in arithmetic."""

from __future__ import annotations

import pytest

from tests.golden import Golden
from tests.passes.harness import cases, check


@pytest.mark.parametrize("case", cases("lift-activations"))
def test_golden(case: str, golden: Golden) -> None:
    check("lift-activations", case, golden)
