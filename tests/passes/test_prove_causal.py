"""Masks are proven to mean what they become, or refused."""

from __future__ import annotations

import pytest

from tests.golden import Golden
from tests.passes.harness import cases, check


@pytest.mark.parametrize("case", cases("prove-causal"))
def test_golden(case: str, golden: Golden) -> None:
    check("prove-causal", case, golden)
