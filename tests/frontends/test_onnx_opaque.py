"""Operators that no table has are kept, typed, reported and run."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from onnx import NodeProto, parser, save_model

from hetc.errors import BackendError, InputError
from hetc.frontends.onnx import ImportedOnnx, import_onnx, load_onnx
from hetc.frontends.onnx.opaque import bare
from hetc.ir.dims import symbol
from hetc.ir.interpret import interpret
from hetc.ir.ops.control import Opaque
from hetc.ir.types import Array
from tests.frontends.onnx_exports import write_text

TABLE = np.random.default_rng(3).standard_normal((8, 4)).astype(np.float32)
NUMBERS = ", ".join(str(number) for number in TABLE.flat)


KEPT = "logits = ai.onnx.ml.Binarizer <threshold = 0.25> (x)"


def imported(body: str, folder: Path, width: str = "rest") -> ImportedOnnx:
    text = f"""
    lm (int64[batch, sequence] input_ids) => (float[batch, sequence, {width}] logits)
    <float[8, 4] table = {{{NUMBERS}}}, int64 two = {{2}}, bool yes = {{1}}>
    {{ x = Gather (table, input_ids)
       {body} }}"""
    path = write_text(folder / "opaque.onnx", text)
    return import_onnx(load_onnx(path), path)


def run(model: ImportedOnnx, ids: Array) -> Array:
    return interpret(model.graph, [ids], lambda name: model.weights[name].load())[0]


IDS = np.array([[1, 5, 0], [7, 2, 2]])


def test_an_operator_without_a_table_is_kept_and_runs(tmp_path: Path) -> None:
    model = imported(KEPT, tmp_path, width="4")
    (opaque,) = (op for op in model.graph.ops if op.kind == "opaque")
    assert opaque.results[0].shape == (symbol("B"), symbol("S"), 4)
    (reason,) = model.opaque
    assert reason.code == "HETC-I310"
    assert "ai.onnx.ml::Binarizer" in reason.text
    assert reason.text.endswith("no table of hetc has it")
    np.testing.assert_array_equal(run(model, IDS), TABLE[IDS] > 0.25)


def test_stack_traces_of_the_exporter_are_dropped(tmp_path: Path) -> None:
    node = parser.parse_node('logits = Einsum <equation = "bse,bte->bst"> (x, x)')
    node.doc_string = "File /home/somebody/model.py"
    node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="File /home/somebody/model.py")
    node.attribute[0].doc_string = "/home/somebody"
    kept = bare(node)
    assert b"somebody" not in kept.SerializeToString()
    assert kept.attribute[0].s == node.attribute[0].s


LOOP = """
      logits = Loop (COUNT, yes, x) <body = step (int64 i, bool c, float[batch, sequence, 4] h)
        => (bool again, float[batch, sequence, 4] next) { again = Identity (c)
                                                          next = Add (h, x) }>"""


def test_a_loop_that_data_end_is_kept_with_what_it_captures(tmp_path: Path) -> None:
    body = "count = ReduceMax <keepdims = 0> (input_ids)" + LOOP.replace("COUNT", "count")
    model = imported(body, tmp_path, width="4")
    assert [op.kind for op in model.graph.ops].count("opaque") == 1
    assert model.opaque[0].text.endswith("a loop whose length depends on data or sizes")
    np.testing.assert_allclose(run(model, IDS), 8 * TABLE[IDS], rtol=1e-6)


def test_a_loop_of_a_known_length_is_written_out(tmp_path: Path) -> None:
    model = imported(LOOP.replace("COUNT", "two"), tmp_path, width="4")
    assert [op.kind for op in model.graph.ops] == ["weight", "embedding", "add", "add"]
    np.testing.assert_allclose(run(model, IDS), 3 * TABLE[IDS], rtol=1e-6)


def test_operator_without_known_types_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="HETC-I311") as error:
        imported("logits = com.microsoft.Unheard (x)", tmp_path)
    assert "no table of hetc has it" in error.value.found


def test_opaque_that_nothing_here_can_run(tmp_path: Path) -> None:
    model = imported(KEPT, tmp_path, width="4")
    (opaque,) = (op for op in model.graph.ops if isinstance(op, Opaque))
    node = NodeProto()
    node.ParseFromString(base64.b64decode(json.loads(opaque.arguments)["node"]))
    node.domain = "com.example"
    arguments = json.loads(opaque.arguments)
    arguments["node"] = base64.b64encode(node.SerializeToString()).decode()
    foreign = opaque.replace(arguments=json.dumps(arguments))
    with pytest.raises(BackendError, match="HETC-E002"):
        foreign.semantics(TABLE[IDS])


def test_functions_are_inlined(tmp_path: Path) -> None:
    functions = """
    <domain: "local", opset_import: ["": 21]>
    twice (a) => (b) { b = Add (a, a) }"""
    path = tmp_path / "functions.onnx"
    text = f"""
    lm (int64[batch, sequence] input_ids) => (float[batch, sequence, rest] logits)
    <float[8, 4] table = {{{NUMBERS}}}>
    {{ x = Gather (table, input_ids)
       logits = local.twice (x) }}
    {functions}"""
    header = '<ir_version: 10, opset_import: ["": 21, "local": 1]>'
    save_model(parser.parse_model(header + text), str(path))
    model = import_onnx(load_onnx(path), path)
    assert model.opaque == ()
    np.testing.assert_allclose(run(model, IDS), 2 * TABLE[IDS], rtol=1e-6)
