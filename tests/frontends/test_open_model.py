"""Paths that are no models give one error each, and none of them hangs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hetc.errors import InputError
from hetc.frontends.open_model import open_model


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(InputError, match="HETC-I002") as caught:
        open_model(tmp_path / "model.onnx")
    assert caught.value.found == "a device"


@pytest.mark.parametrize("path", ["a" * 5000, "a\0b", "no/such/file.onnx"])
def test_what_cannot_be_looked_up_is_missing(path: str) -> None:
    with pytest.raises(InputError, match="HETC-I001"):
        open_model(path)


@pytest.mark.parametrize("suffix", ["onnx", "gguf", "pt2"])
def test_a_directory_is_not_read_as_a_file(suffix: str, tmp_path: Path) -> None:
    folder = tmp_path / f"model.{suffix}"
    folder.mkdir()
    with pytest.raises(InputError, match=r"config\.json"):
        open_model(folder)
