"""Running sums of data along the tokens become scans; others stay."""

from __future__ import annotations

import pytest

from tests.golden import Golden
from tests.passes.harness import cases, check


@pytest.mark.parametrize("case", cases("scan-sums"))
def test_golden(case: str, golden: Golden) -> None:
    check("scan-sums", case, golden)
