"""Tiny models are built and lowered once a session."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from tests.backends.dataflow.tiny_models import Subject, subject

TinyModels = Callable[[str, int], Subject]


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """`tiny_models(family, batch)`: a tiny random model and its reference logits."""
    folder = tmp_path_factory.mktemp("tiny")
    return cache(lambda family, batch: subject(family, batch, folder / family))
