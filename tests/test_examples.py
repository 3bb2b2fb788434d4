"""Every example runs as a user would run it, and prints what it promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
# What a run prints, whatever the machine: each in this order.
PRINTS = {
    "custom_pass.py": ("mul %q, 0.125", "fired   {'FoldScales': 1}", "refused MY-0001 at buckets"),
    "from_exported_program.py": ("verified    prefill + decode = forward", "executors   prefill"),
    "from_hf_directory.py": ("manifest.json", "weights/model.safetensors", "bytes of bf16"),
    "from_onnx_file.py": ("2 attention masks proven causal", "verified    ", "\ntokens "),
    "read_marks.py": ("prefill ", "decode ", "h200", "sn40l", "cut: min-cut", "decode device only"),
    "torch_compile.py": ("prefill", "region", "decode", "the same text"),
    "without_phases.py": (
        "no phases   HETC-I205",
        "verified    compiled",
        "scores (4, 10), max error",
    ),
    "write_a_target.py": (
        "unknown key",
        "my-chip:8",
        "a plan: no weights",
        "decode      my-chip:8",
    ),
}


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PRINTS)


@pytest.mark.parametrize("name", sorted(PRINTS))
def test_example(name: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=tmp_path,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert run.returncode == 0, run.stdout + run.stderr
    position = 0
    for text in PRINTS[name]:
        position = run.stdout.find(text, position)
        assert position >= 0, f"{text!r} is missing or comes too early in:\n{run.stdout}"
    assert not list(tmp_path.iterdir()), "an example leaves files behind"


@pytest.mark.parametrize("name", sorted(PRINTS))
def test_an_example_is_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text("utf-8").splitlines()) < 60
