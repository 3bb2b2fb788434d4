"""Repeated layers become one called graph."""

from __future__ import annotations

import pytest

from tests.golden import Golden
from tests.passes.harness import cases, check


@pytest.mark.parametrize("case", cases("outline-layers"))
def test_golden(case: str, golden: Golden) -> None:
    check("outline-layers", case, golden)
