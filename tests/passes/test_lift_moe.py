"""Mixtures of experts in their batched form."""

from __future__ import annotations

import pytest

from tests.golden import Golden
from tests.passes.harness import cases, check


@pytest.mark.parametrize("case", cases("lift-moe"))
def test_golden(case: str, golden: Golden) -> None:
    check("lift-moe", case, golden)
