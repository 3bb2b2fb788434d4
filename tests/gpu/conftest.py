"""Bundles that were made on another machine: `make gpu-bundles`, then copy `build/gpu-bundles`."""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "build" / "gpu-bundles"
NAMES = tuple(sorted(path.name.split(".")[0] for path in FOLDER.glob("*.expected.npz")))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "bundle_path" in metafunc.fixturenames:
        missing = f"no bundles in {FOLDER}: make gpu-bundles, on a machine with the compiler"
        skipped = pytest.param(None, marks=pytest.mark.skip(reason=missing), id="none")
        metafunc.parametrize("bundle_path", [FOLDER / name for name in NAMES] or [skipped], ids=str)


@pytest.fixture
def smollm2() -> Path:
    """The bundle of SmolLM2."""
    path = FOLDER / "smollm2"
    if not path.exists():
        pytest.skip(f"no bundle at {path}: make gpu-bundles, on a machine with the compiler")
    return path
