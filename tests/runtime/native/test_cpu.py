"""What CPUs say of themselves on Linux and macOS, and which variant of the code they get."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hetc.backends.native.isa import VARIANTS
from hetc.runtime.native import cpu

HASWELL = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 60
stepping\t: 3
flags\t\t: fpu sse2 avx f16c fma bmi1 avx2 bmi2 movbe abm

processor\t: 1
flags\t\t: fpu
"""
GRAVITON = """processor\t: 0
Features\t: fp asimd asimddp i8mm bf16
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""


def best(features: frozenset[str]) -> str:
    return next(isa.name for isa in VARIANTS if features.issuperset(isa.needs))


def on_linux(text: str, folder: Path) -> Path:
    (folder / "cpuinfo").write_text(text)
    return folder / "cpuinfo"


@pytest.mark.parametrize(
    ("text", "variant"),
    [
        (HASWELL, "avx2"),
        (HASWELL.replace("avx2", "avx2 avx_vnni"), "avxvnni"),
        (HASWELL.replace("movbe", "avx512f avx512bw avx512_vnni"), "avx512vnni"),
        (HASWELL.replace("fma", ""), "portable"),
        (GRAVITON, "neonbf16"),
        (GRAVITON.replace("i8mm bf16", ""), "neon"),
        (GRAVITON.replace("asimddp i8mm bf16", ""), "portable"),
        ("", "portable"),
        ("flags : \n\n", "portable"),
    ],
)
def test_the_best_variant_on_linux(text: str, variant: str, tmp_path: Path) -> None:
    assert best(cpu.cpu_features(on_linux(text, tmp_path))) == variant


def test_where_nothing_says(tmp_path: Path) -> None:
    assert best(cpu.cpu_features(tmp_path / "none")) == "portable"


@pytest.mark.parametrize(
    ("printed", "variant"),
    [
        ("DotProd 1, BF16 1, I8MM 1", "neonbf16"),
        ("DotProd 1, BF16 0, I8MM 0", "neon"),
        ("DotProd 0", "portable"),
        ("", "portable"),
    ],
)
def test_the_best_variant_on_macos(
    printed: str, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [pair.split() for pair in printed.split(", ") if pair]
    lines = "".join(f"hw.optional.arm.FEAT_{name}: {value}\n" for name, value in pairs)
    done = subprocess.CompletedProcess([], 0, stdout=lines)
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setattr("subprocess.run", lambda *command, **options: done)
    assert best(cpu.cpu_features(tmp_path / "none")) == variant


def test_macos_without_sysctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*command: object, **options: object) -> None:
        raise FileNotFoundError("sysctl")

    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("subprocess.run", missing)
    assert best(cpu.cpu_features(tmp_path / "nothing")) == "portable"


def test_another_cpu_or_feature_is_another_identity(tmp_path: Path) -> None:
    found = set()
    for text in (HASWELL, HASWELL.replace("60", "61"), HASWELL.replace("fma", ""), GRAVITON):
        cpu.cpu_identity.cache_clear()
        found.add(cpu.cpu_identity(on_linux(text, tmp_path)))
    assert len(found) == 4
