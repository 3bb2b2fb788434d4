"""The README of a bundle."""

from __future__ import annotations

from hetc.report import readme
from tests.golden import Golden
from tests.report.facts import contract, manifest


def test_golden(golden: Golden) -> None:
    golden("readme.md", readme(manifest(), contract()))


def test_a_plan_does_not_say_that_it_runs() -> None:
    page = readme(manifest(kind="plan"), contract())
    assert "made without weights" in page
    assert "hetc run" not in page
