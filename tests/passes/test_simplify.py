"""What does nothing is dropped, what is computed twice is shared."""

from __future__ import annotations

import pytest

from tests.golden import Golden
from tests.passes.harness import cases, check


@pytest.mark.parametrize("case", cases("simplify"))
def test_golden(case: str, golden: Golden) -> None:
    check("simplify", case, golden)
