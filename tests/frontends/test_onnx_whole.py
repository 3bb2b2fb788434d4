"""Models that are no decoders: imported with their own inputs and outputs."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import parser
from onnx.reference import ReferenceEvaluator

from hetc.errors import InputError
from hetc.frontends.onnx import import_whole
from hetc.ir.interpret import interpret
from hetc.ir.types import Array

TEXT = """
<ir_version: 8, opset_import: ["": 17]>
net (float[batch, 4] x, float[batch, 4] y, int64[2] shape) => (float[batch, 4] sum, float[m, n] z)
<float[4] scale = {1, 2, 3, 4}> {
  sum = Add(x, y)
  scaled = Mul(sum, scale)
  z = Reshape(scaled, shape)
}
"""


def test_every_input_and_output_stays() -> None:
    model = parser.parse_model(TEXT)
    x, y = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    shape = np.array([4, 3])
    imported = import_whole(model, name="net", known={"shape": np.array([4, -1])})
    graph = imported.graph
    assert [(v.name, str(v.type)) for v in graph.inputs] == [("x", "f32[N0,4]"), ("y", "f32[N0,4]")]
    assert graph.output_names == ("sum", "z")
    assert (graph.name, imported.kind, imported.opaque) == ("net", "whole", ())
    found = interpret(graph, [x, y], lambda name: imported.weights[name].load())
    expected = ReferenceEvaluator(model).run(None, {"x": x, "y": y, "shape": shape})
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_shape_among_the_inputs_needs_a_value() -> None:
    model = parser.parse_model(TEXT)
    with pytest.raises(InputError, match="the shape of a tensor cannot be told") as caught:
        import_whole(model)
    assert caught.value.code == "HETC-I312"
    with pytest.raises(InputError, match="does not fit") as caught:
        import_whole(model, known={"shape": np.array([4, -1, 1])})
    assert caught.value.code == "HETC-I307"


class Classifier(torch.nn.Module):
    """A small convolutional network with a pooled head, and its features as a second output."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(16, 8)
        self.position = torch.nn.Parameter(torch.randn(1, 12, 8))
        self.head = torch.nn.Linear(8, 3)

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.embed(ids) + self.position[:, : ids.shape[1]]
        return self.head(features.mean(1)), features


@pytest.mark.parametrize("dynamo", [False, True])
def test_models_of_torch(dynamo: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, path = Classifier().eval(), tmp_path / "model.onnx"
    ids = torch.randint(16, (2, 5))
    sizes = {"dynamic_shapes": ({0: torch.export.Dim("b"), 1: torch.export.Dim("s", max=12)},)}
    axes = {"dynamic_axes": {"ids": {0: "b", 1: "s"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (ids,),
            path,
            input_names=["ids"],
            output_names=["logits", "features"],
            opset_version=18,
            dynamo=dynamo,
            **(sizes if dynamo else axes),
        )
    imported = import_whole(path)
    assert imported.graph.output_names == ("logits", "features")
    assert str(imported.graph.inputs[0].type) == "i64[N0,N1]"
    assert imported.notes == ("N1 is at most 12",)
    other = torch.randint(16, (3, 12))
    found = interpret(imported.graph, [other.numpy()], lambda name: imported.weights[name].load())
    for ours, theirs in zip(found, model(other), strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_sequence_is_no_output() -> None:
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> net (float[4] x) => (seq(float[2]) y) '
        "{ y = SplitToSequence <axis = 0> (x) }"
    )
    with pytest.raises(InputError, match="sequence") as caught:
        import_whole(model)
    assert caught.value.code == "HETC-I309"


def test_data_in_another_file_need_the_folder(tmp_path: Path) -> None:
    model = parser.parse_model(TEXT)
    weight: Array = np.arange(4, dtype=np.float32)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, "scale"))
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, size_threshold=0)
    bare = onnx.load(path, load_external_data=False)
    known = {"shape": np.array([4, -1])}
    with pytest.raises(InputError, match="may not keep its data in another file"):
        import_whole(bare, known=known)
    imported = import_whole(bare, source=str(path), known=known)
    assert np.array_equal(imported.weights["scale"].load(), weight)


@pytest.mark.parametrize(
    "line",
    [
        "y = DFT (x, many)",
        'y = Resize <mode = "linear"> (x, , , sizes)',
        'y = Pad <mode = "edge"> (x, pads)',
    ],
)
def test_tables_without_a_bound_are_not_worked_out(line: str) -> None:
    model = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 20]>
        net (float[1, 4, 1] x) => (float[a, b, c] y)
        <int64 many = {{{2**40}}}, int64[3] sizes = {{1, {2**40}, 1}},
         int64[6] pads = {{0, {2**40}, 0, 0, 0, 0}}> {{ {line} }}"""
    )
    imported = import_whole(model)
    (reason,) = imported.opaque
    assert "a table of" in reason.text or "elements" in reason.text
