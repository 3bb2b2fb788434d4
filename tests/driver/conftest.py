"""Every model is built, saved and compiled once a session, whoever asks first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hetc.driver import CompileOptions, compile_bundle, load
from hetc.runtime import Bundle
from tests.driver.models import build, save


@dataclass(frozen=True)
class Subject:
    """A model in transformers, its directory, its bundle's directory, and the bundle."""

    model: Any
    source: Path
    path: Path
    bundle: Bundle


Subjects = Callable[[str], Subject]


@pytest.fixture(scope="session")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Subjects:
    """`subjects(family)`: the tiny model of that family, compiled with default options."""
    made: dict[str, Subject] = {}
    folder = tmp_path_factory.mktemp("subjects")

    def subject(family: str) -> Subject:
        if family not in made:
            model = build(family)
            source = save(model, folder / family)
            path = compile_bundle(source, folder / f"{family}.bundle", CompileOptions()).path
            made[family] = Subject(model, source, path, load(path))
        return made[family]

    return subject
