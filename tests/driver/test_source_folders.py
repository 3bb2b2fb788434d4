"""A bundle does not tell where the source of its model lay: two folders give the same bytes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hetc.driver import CompileOptions, compile_bundle
from tests.driver.models import export, tokens
from tests.frontends.onnx_exports import quietly

# No frontend has a table for the arc tangent: the op is kept, with its place.
SOURCE = """
import torch

class Decoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(128, 16)
        self.head = torch.nn.Linear(16, 128)

    def forward(self, input_ids):
        return self.head(torch.atan(self.embed(input_ids)))
"""


def in_memory(module: torch.nn.Module, folder: Path) -> object:
    return export(module)


def as_pt2(module: torch.nn.Module, folder: Path) -> object:
    torch.export.save(export(module), folder / "decoder.pt2")
    return folder / "decoder.pt2"


def as_fx(module: torch.nn.Module, folder: Path) -> object:
    return torch.fx.symbolic_trace(module), (tokens(2, 7),)


def as_onnx(module: torch.nn.Module, folder: Path) -> object:
    program = quietly(
        module,
        (tokens(2, 7),),
        dynamo=True,
        input_names=["input_ids"],
        output_names=["logits"],
        dynamic_shapes={"input_ids": {0: "batch", 1: "sequence"}},
    )
    program.save(str(folder / "decoder.onnx"))
    return folder / "decoder.onnx"


def bundle_of(folder: Path, source: Callable[[torch.nn.Module, Path], object]) -> dict[str, bytes]:
    """The files of a bundle of `SOURCE`, imported from `folder`."""
    folder.mkdir()
    file = folder / "model_source.py"
    file.write_text(SOURCE, "utf-8")
    spec = importlib.util.spec_from_file_location("model_source", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    compiled = compile_bundle(
        source(module.Decoder().eval(), folder), folder / "bundle", CompileOptions()
    )
    assert len(compiled.manifest.fallbacks) >= 2
    root = compiled.path
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("source", [in_memory, as_pt2, as_fx, as_onnx])
def test_two_folders_give_the_same_bytes(
    source: Callable[[torch.nn.Module, Path], object], tmp_path: Path
) -> None:
    one, other = bundle_of(tmp_path / "one", source), bundle_of(tmp_path / "other", source)
    assert one == other
    hidden = (str(tmp_path).encode(), b"model_source")
    assert [name for name, data in one.items() if any(text in data for text in hidden)] == []
