"""The interpreter that the tests of kernels share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.backends.triton.interpreting import Interpreter


@pytest.fixture(scope="session")
def interpreter() -> Iterator[Interpreter]:
    """One process for all tests of a worker."""
    with Interpreter() as process:
        yield process
