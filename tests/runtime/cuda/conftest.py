"""Bundles with launch plans by hand, open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hetc.bundle import OpenBundle, open_bundle

pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")

from tests.runtime.cuda.layered_plan import write_layered
from tests.runtime.cuda.toy_plan import write_toy


@pytest.fixture(scope="session")
def layered_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layered model as a bundle."""
    return write_layered(tmp_path_factory.mktemp("layered") / "bundle")


@pytest.fixture(scope="session")
def toy_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy as a bundle for `cuda` and `onnx`."""
    return write_toy(tmp_path_factory.mktemp("toy") / "bundle")


@pytest.fixture
def layered(layered_path: Path) -> Iterator[OpenBundle]:
    """The layered bundle, open."""
    with open_bundle(layered_path) as bundle:
        yield bundle
