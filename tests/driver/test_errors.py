"""What a compile cannot do gives one clear error, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import hetc
from hetc.driver import CompileOptions, compile_bundle, load
from hetc.errors import HetcError, PartitionError, UsageError
from tests.driver.conftest import Subjects
from tests.driver.models import VOCABULARY, export, save_config, tokens
from tests.driver.stepping import largest_error
from tests.golden import Golden

LLAMA_405B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 16384,
    "intermediate_size": 53248,
    "num_hidden_layers": 126,
    "num_attention_heads": 128,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "dtype": "bfloat16",
}


def error_of(source: Any, output: Path, **options: Any) -> HetcError:
    """The error of compiling `source` to `output`, beside which nothing changes."""
    before = sorted(output.parent.iterdir()) if output.parent.is_dir() else []
    with pytest.raises(HetcError) as caught:
        compile_bundle(source, output, CompileOptions(**options))
    assert (sorted(output.parent.iterdir()) if output.parent.is_dir() else []) == before
    assert caught.value.exit_code == 2
    return caught.value


def text_of(error: HetcError, folder: Path) -> str:
    return error.render().replace(str(folder), "FOLDER")


class Case(NamedTuple):
    """A source, made in a folder, and the options it is compiled with."""

    source: Callable[[Path], Any]
    options: dict[str, Any]


def _file(name: str, data: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


def _empty_folder(folder: Path) -> Path:
    (folder / "nothing_in_it").mkdir()
    return folder / "nothing_in_it"


UNUSABLE = {
    "missing_file": Case(lambda folder: folder / "model.gguf", {}),
    "wrong_format": Case(_file("notes.txt", b"a few notes"), {}),
    "wrong_gguf": Case(_file("model.gguf", b"not a model"), {}),
    "wrong_onnx": Case(_file("model.onnx", b"not a model"), {}),
    "wrong_pt2": Case(_file("model.pt2", b"PK not a zip file"), {}),
    "empty_file": Case(_file("model.bin", b""), {}),
    "no_config": Case(_empty_folder, {}),
    "wrong_object": Case(lambda folder: torch.nn.Linear(2, 2), {}),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_no_model(name: str, tmp_path: Path, golden: Golden) -> None:
    source = UNUSABLE[name].source(tmp_path)
    golden(f"{name}.txt", text_of(error_of(source, tmp_path / "bundle"), tmp_path))


OPTIONS: dict[str, dict[str, Any]] = {
    "unknown_target": {"decode": "sn40"},
    "unknown_link": {"link": "pcie"},
    "unknown_dtype": {"dtype": "int3"},
    "no_batch": {"batch": 0},
    "no_policy": {"policy": Path("nowhere.toml")},
    "context_beyond_the_model": {"context": 65},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name: str, subjects: Subjects, tmp_path: Path, golden: Golden) -> None:
    error = error_of(subjects("llama").source, tmp_path / "bundle", **OPTIONS[name])
    golden(f"{name}.txt", text_of(error, tmp_path))


def test_405b_does_not_fit_one_socket(tmp_path: Path, golden: Golden) -> None:
    source = save_config(tmp_path / "llama405b", LLAMA_405B)
    error = error_of(source, tmp_path / "bundle", prefill="sn40l", decode="sn40l")
    assert isinstance(error, PartitionError)
    golden("target_too_small.txt", error.render())


class LogGamma(torch.nn.Module):
    """A model with an op that is in no table of hetc's."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(VOCABULARY, 16)
        self.head = torch.nn.Linear(16, VOCABULARY)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(torch.lgamma(self.embed(input_ids).abs() + 1))
        return logits


def test_an_unsupported_op_is_counted_or_with_strict_refused(tmp_path: Path) -> None:
    program = export(LogGamma())
    error = error_of(program, tmp_path / "bundle", strict=True)
    assert error.code == "HETC-P020"
    assert "prims.lgamma.default" in error.found
    compiled = compile_bundle(program, tmp_path / "bundle", CompileOptions(prefill="h200"))
    assert {fallback.code for fallback in compiled.manifest.fallbacks} == {
        "HETC-I210",
        "HETC-E010",
        "HETC-E040",
        "HETC-E050",
    }
    assert sum("lgamma" in line for line in compiled.summary) == 3
    with load(compiled.path) as bundle, torch.no_grad():
        assert bundle.executors == {"prefill": "reference", "decode": "reference"}
        ids = tokens(2, 20)
        assert largest_error(bundle, ids.numpy(), LogGamma()(ids).numpy(), 12, 1) <= 1e-4


def test_the_output_is_taken(subjects: Subjects, tmp_path: Path, golden: Golden) -> None:
    subject = subjects("llama")
    taken = shutil.copytree(subject.path, tmp_path / "bundle")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    errors = [error_of(subject.source, path) for path in (taken, mine, mine / "thesis.txt")]
    errors.append(error_of(subject.source, tmp_path / "no" / "such" / "folder"))
    golden("output_taken.txt", text_of_all(errors, tmp_path))
    with pytest.raises(HetcError, match="HETC-B020"):
        hetc.compile(subject.source, output=mine, overwrite=True)
    with hetc.compile(subject.source, output=taken, overwrite=True, context=32) as bundle:
        assert bundle.manifest.model.max_context == 32
    assert (mine / "thesis.txt").read_text() == "years of work"


def text_of_all(errors: list[HetcError], folder: Path) -> str:
    return "\n".join(text_of(error, folder) for error in errors)


def test_a_compile_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    source = export(LogGamma())
    steps: list[str] = []
    compile_bundle(source, tmp_path / "whole", CompileOptions(), steps.append)
    shutil.rmtree(tmp_path / "whole")
    assert len(steps) >= 6
    for last in steps:

        def stop(step: str, last: str = last) -> None:
            if step == last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            compile_bundle(source, tmp_path / "bundle", CompileOptions(), stop)
        assert list(tmp_path.iterdir()) == []


def test_no_space_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    error = error_of(export(LogGamma()), tmp_path / "bundle")
    assert error.code == "HETC-B021"
    assert error.found == "1000 bytes available"


def test_a_bundle_of_another_version(subjects: Subjects, tmp_path: Path, golden: Golden) -> None:
    path = shutil.copytree(subjects("llama").path, tmp_path / "bundle")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["schema"] = "hetc.bundle/9"
    (path / "manifest.json").write_text(json.dumps(manifest) + "\n")
    with pytest.raises(HetcError) as caught:
        load(path)
    golden("another_version.txt", text_of(caught.value, tmp_path))


def test_an_option_that_does_not_exist(subjects: Subjects) -> None:
    with pytest.raises((TypeError, UsageError), match="decoder"):
        hetc.compile(subjects("llama").source, decoder="sn40l")
