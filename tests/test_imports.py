"""Importing hetc is light, its public names arrive on first use, and heavy packages stay lazy."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hetc
from hetc import driver

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TIDY_IMPORTS = PYPROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]
HEAVY = {*TIDY_IMPORTS["banned-module-level-imports"], "numpy", "ml_dtypes", "click", "tokenizers"}


def modules_loaded_by(statement: str) -> set[str]:
    """Top-level packages in `sys.modules` after `statement` in a fresh interpreter."""
    script = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_importing_hetc_loads_no_heavy_package() -> None:
    loaded = modules_loaded_by("import hetc; hetc.HetcError")
    assert "hetc" in loaded
    assert not loaded & HEAVY


def test_asking_for_the_version_loads_no_room() -> None:
    script = "import hetc, sys; print(*(m for m in sys.modules if m.startswith('hetc.')))"
    run = subprocess.run(
        [sys.executable, "-c", f"{script}; hetc.__version__"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == ["hetc.errors"]


def test_a_room_loads_no_heavy_package_before_it_is_used() -> None:
    for room in ("hetc.targets", "hetc.runtime", "hetc.driver"):
        loaded = modules_loaded_by(f"from {room} import *")
        assert not loaded & set(TIDY_IMPORTS["banned-module-level-imports"]), room


@pytest.mark.parametrize("name", hetc.__all__)
def test_every_public_name_arrives(name: str) -> None:
    assert getattr(hetc, name) is not None
    assert name in dir(hetc)


@pytest.mark.parametrize("order", ["modules first", "names first"])
def test_the_driver_has_functions_where_modules_bear_their_names(order: str) -> None:
    names = ", ".join(driver.__all__)
    modules = ", ".join(
        f"hetc.driver.{p.stem}" for p in (ROOT / "hetc" / "driver").glob("[a-z]*.py")
    )
    imports = [f"import {modules}", f"from hetc.driver import {names}"]
    if order == "names first":
        imports.reverse()
    check = "import hetc.driver as d; print(*[type(getattr(d, n)).__name__ for n in d.__all__])"
    run = subprocess.run(
        [sys.executable, "-c", "\n".join((*imports, check))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(run.stdout.split()) == {"function", "type"}


def test_loading_a_bundle_imports_no_compiler() -> None:
    script = "from hetc.driver import load; import sys; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    rooms = {".".join(name.split(".")[:2]) for name in run.stdout.split()}
    assert not rooms & {"hetc.passes", "hetc.frontends", "hetc.targets", "hetc.report"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'decompile'"):
        hetc.decompile  # noqa: B018


def test_every_room_stands_in_the_layering_contract() -> None:
    layers, apart = PYPROJECT["tool"]["importlinter"]["contracts"]
    assert layers["exhaustive"]
    rooms = {room.strip(" ()") for layer in layers["layers"] for room in layer.split("|")}
    found = {path.stem for path in (ROOT / "hetc").iterdir() if path.suffix in {"", ".py"}}
    assert found - {"__init__", "__pycache__"} <= rooms
    assert apart["layers"][0] == "(runtime)"
