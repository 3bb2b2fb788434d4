"""Loaded toy bundles for this room's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hetc.runtime import Bundle, load
from tests.runtime.toy import NumpyExecutor, write_toy_bundle


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A toy bundle that runs on the NumPy executor."""
    return write_toy_bundle(tmp_path / "toy")


@pytest.fixture
def bundle(path: Path) -> Iterator[Bundle]:
    """The same, loaded."""
    with load(path, executors={"toy": NumpyExecutor}) as loaded:
        yield loaded
