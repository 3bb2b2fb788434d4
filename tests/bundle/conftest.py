"""Fixtures of the bundle room."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundle.build import make_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A fresh tiny bundle, for the test to spoil."""
    return make_bundle(tmp_path / "tiny")
