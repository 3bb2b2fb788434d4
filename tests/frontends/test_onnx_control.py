"""Branches and loops: what is decided when the model is imported is written out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime
import pytest
from onnx import parser

from hetc.errors import InputError
from hetc.frontends.onnx import ImportedOnnx, import_whole
from hetc.ir.interpret import interpret
from hetc.ir.types import Array

HEADER = '<ir_version: 8, opset_import: ["": 21]>\n'
X = np.random.default_rng(5).standard_normal((4, 3)).astype(np.float32)
SCAN = """
net (float[4, 3] x, float[3] h) => (float[3] last, float[m, n] rows) {
  last, rows = Scan <num_scan_inputs = 1, ATTRIBUTES, body = step
    (float[3] before, float[3] row) => (float[3] after, float[3] kept)
    { after = Add (before, row)  kept = Mul (after, row) }> (h, x)
}"""
LOOP = """
net (float[4, 3] x, int64 count, bool go) => (float[4, 3] last, float[m, n, k] rows)
<float half = {0.5}, int64 three = {3}> {
  last, rows = Loop <body = step (int64 i, bool on, float[4, 3] h)
    => (bool again, float[4, 3] next, float[4, 3] kept)
    { next = Mul (h, half)  again = Less (i, three)  kept = Add (next, x) }> (count, go, x)
}"""
CHOICE = """
net (float[4, 3] x, bool flag) => (float[4, 3] y) <float two = {2}> {
  y = If (flag) <
    then_branch = yes () => (float[4, 3] a) { a = Mul (x, two) },
    else_branch = no () => (float[4, 3] b) <float[1] ten = {10}> { b = Add (x, ten) }>
}"""
GUARDED = """
net (float[4, 3] x, int64 at) => (float[3] y) <int64 four = {4}, int64 zero = {0}> {
  inside = Less (at, four)
  y = If (inside) <
    then_branch = yes () => (float[3] a) { a = Gather (x, at) },
    else_branch = no () => (float[3] b) { b = Gather (x, zero) }>
}"""


def agree(text: str, feeds: Mapping[str, Array], known: tuple[str, ...] = ()) -> ImportedOnnx:
    """hetc and ONNX Runtime give the same."""
    model = parser.parse_model(HEADER + text)
    imported = import_whole(model, known={name: feeds[name] for name in known})
    inputs = [feeds[value.name] for value in imported.graph.inputs]
    found = interpret(imported.graph, inputs, lambda name: imported.weights[name].load())
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    expected = session.run(None, dict(feeds))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    return imported


@pytest.mark.parametrize(
    "attributes",
    [
        "scan_input_axes = [0]",
        "scan_input_directions = [1], scan_output_directions = [1]",
        "scan_output_axes = [1]",
    ],
)
def test_a_scan_over_a_fixed_length(attributes: str) -> None:
    feeds = {"x": X, "h": np.ones(3, np.float32)}
    imported = agree(SCAN.replace("ATTRIBUTES", attributes), feeds)
    assert imported.opaque == ()
    assert [op.kind for op in imported.graph.ops].count("mul") == 4


@pytest.mark.parametrize(("count", "go", "trips"), [(2, True, 2), (9, True, 4), (3, False, 0)])
def test_a_loop_ends_by_its_count_or_its_condition(count: int, go: bool, trips: int) -> None:
    text = LOOP
    if not trips:
        # Rows of no trip have no shape; the state stays what it is.
        text = LOOP.replace(", float[m, n, k] rows)", ")").replace("last, rows =", "last =")
        text = text.replace(", float[4, 3] kept)", ")").replace("kept = Add (next, x)", "")
    feeds = {"x": X, "count": np.array(count), "go": np.array(go)}
    imported = agree(text, feeds, ("count", "go"))
    assert imported.opaque == ()
    assert [op.kind for op in imported.graph.ops].count("mul") == trips


def test_a_loop_of_data_is_kept() -> None:
    feeds = {"x": X, "count": np.array(2), "go": np.array(True)}
    text = LOOP.replace("float[m, n, k]", "float[m, 4, 3]")
    model = parser.parse_model(HEADER + text.replace(", float[m, 4, 3] rows", ""))
    model.graph.node[0].output.pop()
    step = model.graph.node[0].attribute[0].g
    step.output.pop()
    step.node.pop()
    imported = import_whole(model)
    (reason,) = imported.opaque
    assert reason.text.endswith("a loop whose length depends on data or sizes")
    inputs = [feeds[value.name] for value in imported.graph.inputs]
    (found,) = interpret(imported.graph, inputs, lambda name: imported.weights[name].load())
    np.testing.assert_allclose(found, X / 4)


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("known", [(), ("flag",)])
def test_a_choice(flag: bool, known: tuple[str, ...]) -> None:
    imported = agree(CHOICE, {"x": X, "flag": np.array(flag)}, known)
    assert imported.opaque == ()
    kinds = {op.kind for op in imported.graph.ops}
    assert ("where" in kinds) == (not known)


@pytest.mark.parametrize("at", [2, 7])
def test_a_choice_that_guards_an_index_stays_one(at: int) -> None:
    imported = agree(GUARDED, {"x": X, "at": np.array(at)})
    (reason,) = imported.opaque
    assert reason.text.endswith("a choice, made by data, that may guard an index")


def test_loops_inside_of_loops_share_one_bound() -> None:
    text = """
    net (float[3] x) => (float[3] y) <int64 many = {1000}, bool yes = {1}> {
      y = Loop (many, yes, x) <body = outer (int64 i, bool a, float[3] g)
        => (bool b, float[3] next) { b = Identity (a)
          next = Loop (many, yes, g) <body = inner (int64 j, bool c, float[3] h)
            => (bool d, float[3] after) { d = Identity (c) after = Add (h, h) }> }>
    }"""
    with pytest.raises(InputError, match="HETC-I311") as caught:
        import_whole(parser.parse_model(HEADER + text))
    assert "loops of more than 4096 trips" in caught.value.found
