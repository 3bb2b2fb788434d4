"""Linear layers from products, biases and reshapes."""

from __future__ import annotations

import pytest

from tests.golden import Golden
from tests.passes.harness import cases, check


@pytest.mark.parametrize("case", cases("fuse-linear"))
def test_golden(case: str, golden: Golden) -> None:
    check("fuse-linear", case, golden)
