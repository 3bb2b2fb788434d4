"""Called graphs come back in the place of their calls."""

from __future__ import annotations

import pytest

from tests.golden import Golden
from tests.passes.harness import cases, check


@pytest.mark.parametrize("case", cases("inline-calls"))
def test_golden(case: str, golden: Golden) -> None:
    check("inline-calls", case, golden)
