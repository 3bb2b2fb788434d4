"""`verify` says yes to a whole bundle of the right model, and no to anything else."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

import pytest
import torch

from hetc.driver import CompileOptions, compile_bundle, verify
from hetc.frontends.original import original_logits
from hetc.ir.types import Array
from tests.driver.conftest import Subjects
from tests.driver.models import Forward, build, export, save
from tests.frontends.onnx_exports import export_stateless, export_with_past


@pytest.mark.parametrize("family", ["gemma3_text", "falcon", "qwen3_moe"])
def test_against_a_directory(subjects: Subjects, family: str) -> None:
    subject = subjects(family)
    found = verify(subject.path, subject.source)
    assert found.ok
    names = [check.name for check in found.checks]
    assert names == ["files", "golden vectors", "original model, teacher-forced"]
    assert found.max_abs_error is not None
    assert found.max_abs_error <= 1e-4
    assert found.first_divergence is None


def test_against_a_pt2_file(tmp_path: Path) -> None:
    torch.export.save(export(Forward(build("llama"))), tmp_path / "llama.pt2")
    path = compile_bundle(tmp_path / "llama.pt2", tmp_path / "bundle", CompileOptions()).path
    assert verify(path, tmp_path / "llama.pt2").ok


@pytest.mark.parametrize("exporter", [export_stateless, export_with_past])
def test_against_an_onnx_file(exporter: object, tmp_path: Path) -> None:
    assert callable(exporter)
    source = exporter("gpt2", tmp_path).path
    path = compile_bundle(source, tmp_path / "bundle", CompileOptions()).path
    assert verify(path, source).ok


def test_another_model_is_told_apart(subjects: Subjects, tmp_path: Path) -> None:
    other = build("llama")
    with torch.no_grad():
        other.model.layers[1].mlp.up_proj.weight[0] *= 1.5
    found = verify(subjects("llama").path, save(other, tmp_path / "other"))
    assert not found.ok
    assert [check.ok for check in found.checks] == [True, True, False]
    assert found.first_divergence is not None
    assert found.first_divergence["half"] == "prefill"


def test_a_wrong_decode_half_is_found_at_its_position(subjects: Subjects) -> None:
    """The oracle is right until position 20 and wrong from there on."""
    subject = subjects("llama")

    def oracle(tokens: Array) -> Array:
        logits = original_logits(subject.source, tokens)
        logits[:, 20:] += 0.5
        return logits

    found = verify(subject.path, oracle)
    assert not found.ok
    assert found.first_divergence is not None
    assert (found.first_divergence["half"], found.first_divergence["position"]) == ("decode", 20)


@pytest.mark.parametrize(
    "name", ["weights/model.safetensors", "decode/model.onnx", "golden/golden.safetensors"]
)
def test_a_changed_byte_is_found(subjects: Subjects, name: str, tmp_path: Path) -> None:
    path = copytree(subjects("llama").path, tmp_path / "bundle")
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (path / name).write_bytes(data)
    found = verify(path)
    assert not found.ok
    assert name in found.checks[-1].detail


def test_what_is_no_bundle(tmp_path: Path) -> None:
    found = verify(tmp_path)
    assert [check.ok for check in found.checks] == [False]
