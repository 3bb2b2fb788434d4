"""`hetc` in this process, a tiny Llama with a tokenizer, and its bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hetc.backends.dataflow.plan_file import plan_bytes
from hetc.cli import main
from tests.backends.dataflow.planned import ONE, TWO, planned
from tests.driver.models import VOCABULARY, build, save


@dataclass(frozen=True)
class Ran:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Stdout as the one object that it is."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


Hetc = Callable[..., Ran]


@pytest.fixture
def hetc(capfd: pytest.CaptureFixture[str]) -> Hetc:
    """`hetc("inspect", path)` runs a command."""

    def run(*argv: object) -> Ran:
        capfd.readouterr()
        code = main([str(word) for word in argv])
        return Ran(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face directory: a random Llama of two layers, and a tokenizer of words."""
    folder = save(build("llama"), tmp_path_factory.mktemp("cli") / "tiny-llama")
    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{n}": n for n in range(3, VOCABULARY)}
    tokenizer = {
        "version": "1.0",
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "<unk>"},
        "pre_tokenizer": {"type": "Whitespace"},
        "added_tokens": [],
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    config = {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def bundle(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, compiled by the command line with default options."""
    path = tmp_path_factory.mktemp("cli") / "bundle"
    assert main(["compile", str(model), "-o", str(path)]) == 0
    return path


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    """A plan of the toy model on one socket of the fictional grid."""
    path = tmp_path / "plan.json"
    path.write_bytes(plan_bytes(planned(ONE)))
    return path


@pytest.fixture
def other_plan_file(tmp_path: Path) -> Path:
    """The same model on two sockets."""
    path = tmp_path / "other.json"
    path.write_bytes(plan_bytes(planned(TWO)))
    return path
