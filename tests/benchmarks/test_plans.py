"""The plan that asks most of placement and routing: a change of the states once left it without
routes, and no smaller model showed it."""

from __future__ import annotations

import pytest

from benchmarks.plans import Case, run


@pytest.mark.slow
def test_the_largest_mixture_has_a_plan() -> None:
    found = run(Case("DeepSeek-V3", "sn50:16"), "plan")
    assert (found["errors"], found["gap"]) == (0, 0)
    assert 0 < found["mbu"] < found["of_bound"] <= 1
