"""Damaged and absurd ONNX files: each compiles, or is refused by one clear error.

Bytes are flipped, put in and cut off; messages are changed field by field; and files that were made
to take all time and memory are told apart before anything is allocated.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto, helper, parser
from onnx.external_data_helper import set_external_data

from hetc.driver import CompileOptions, compile_bundle
from hetc.errors import HetcError
from tests.frontends.fuzzing import damaged, outcome

_TABLE = ", ".join(str(number / 100) for number in range(168))
FUNCTION = f"""
<ir_version: 10, opset_import: ["" : 21]>
net (float[N, 3, 8] x, int64[N] ids) => (float[N, 5] y, float[N, 24] flat)
<float[24, 5] w = {{{", ".join(str(number / 100) for number in range(120))}}},
 float[7, 24] table = {{{_TABLE}}}, int64[2] shape = {{0, 24}}>
{{
  flat = Reshape (x, shape)
  row = Gather <axis = 0> (table, ids)
  sum = Add (flat, row)
  active = Relu (sum)
  product = MatMul (active, w)
  two = Constant <value_float = 2.0> ()
  scaled = Mul (product, two)
  soft = Softmax <axis = -1> (scaled)
  turned = Transpose <perm = [1, 0]> (soft)
  y = Transpose <perm = [1, 0]> (turned)
}}
"""
LANGUAGE_MODEL = f"""
<ir_version: 10, opset_import: ["" : 21]>
lm (int64[batch, sequence] input_ids) => (float[batch, sequence, 16] logits)
<float[16, 4] table = {{{", ".join(str(number / 100) for number in range(64))}}}>
{{
  hidden = Gather (table, input_ids)
  transposed = Transpose <perm = [1, 0]> (table)
  logits = MatMul (hidden, transposed)
}}
"""
TEXTS = (FUNCTION, LANGUAGE_MODEL)
NUMBERS = (-(2**63), -(2**31), -2, -1, 0, 1, 2, 3, 7, 255, 2**20, 2**31, 2**40, 2**62, 2**63 - 1)
TYPES = tuple(range(-1, 27))
NAMES = ("", "x", "y", "ids", "table", "input_ids", "logits", "a/b", "\n", "nobody")
OPERATORS = (
    *("Relu", "Conv", "Loop", "If", "Scan", "Resize", "TopK", "NonZero", "Expand", "Tile", "Pad"),
    *("ConstantOfShape", "Range", "OneHot", "Einsum", "Split", "Slice", "Reshape", "Gather"),
    *("Concat", "Squeeze", "Unsqueeze", "LSTM", "CumSum", "Gemm", "LayerNormalization", "Where"),
    *("Attention", "QuantizeLinear", "DequantizeLinear", "MaxPool", "Cast", "Nothing", "Identity"),
    *("BatchNormalization", "GridSample", "Unique", "SequenceAt", "Trilu", "EyeLike", "Bernoulli"),
    *("ReduceSum", "ArgMax", "ScatterND", "GatherND", "Flatten", "Size", "Shape", "Constant"),
)
ATTRIBUTES: tuple[Any, ...] = (
    *(1, -1, 2**62, 1.5, float("nan"), float("inf"), "x", ""),
    *([1, 2], [2**62], [-1], [0, 0, 0], [1.0], ["a", "b"]),
)
ATTRIBUTE_NAMES = (
    *("axis", "perm", "to", "value", "shape", "axes", "keepdims", "mode", "equation", "pads"),
    *("kernel_shape", "strides", "num_outputs", "largest", "epsilon", "value_float"),
)


def compiled(data: bytes, folder: Path) -> str:
    """The outcome of compiling a file of these bytes; nothing else stands in `folder` after it."""
    path = folder / "model.onnx"
    path.write_bytes(data)
    options = CompileOptions(prompt_tokens=8, new_tokens=4)
    found = outcome(lambda: compile_bundle(path, folder / "out", options, overwrite=True))
    assert {entry.name for entry in folder.iterdir()} <= {"model.onnx", "out"}
    return found


@st.composite
def changed(draw: Any) -> ModelProto:
    """A model with one to three fields changed."""
    model = parser.parse_model(draw(st.sampled_from(TEXTS)))
    for _ in range(draw(st.integers(1, 3))):
        draw(st.sampled_from(CHANGES))(draw, model)
    return model


def _nodes(draw: Any, model: ModelProto) -> None:
    """Another operator, other names, a node less, one twice, a circle."""
    nodes = model.graph.node
    if not nodes:
        return
    node = nodes[draw(st.integers(0, len(nodes) - 1))]
    made = [name for other in nodes for name in other.output]
    kind = draw(st.sampled_from(("operator", "input", "output", "drop", "double", "circle")))
    if kind == "operator":
        node.op_type = draw(st.sampled_from(OPERATORS))
    elif kind == "input" and node.input:
        place = draw(st.integers(0, len(node.input) - 1))
        node.input[place] = draw(st.sampled_from((*made, *NAMES)))
    elif kind == "output" and node.output:
        node.output[0] = draw(st.sampled_from((*made, *NAMES)))
    elif kind == "drop":
        nodes.remove(node)
    elif kind == "double":
        nodes.add().CopyFrom(node)
    elif kind == "circle" and node.input:
        node.input[0] = node.output[0]


def _attributes(draw: Any, model: ModelProto) -> None:
    """Attributes of other types and absurd numbers."""
    if not model.graph.node:
        return
    node = model.graph.node[draw(st.integers(0, len(model.graph.node) - 1))]
    if node.attribute and draw(st.booleans()):
        attribute = node.attribute[0]
        kind = draw(st.sampled_from(("number", "more", "type", "none")))
        if kind == "number":
            attribute.i = draw(st.sampled_from(NUMBERS))
        elif kind == "more":
            attribute.ints.append(draw(st.sampled_from(NUMBERS)))
        elif kind == "type":
            attribute.type = draw(st.integers(0, 14))
        else:
            del node.attribute[:]
        return
    name, value = draw(st.sampled_from(ATTRIBUTE_NAMES)), draw(st.sampled_from(ATTRIBUTES))
    node.attribute.append(helper.make_attribute(name, value))


def _weights(draw: Any, model: ModelProto) -> None:
    """Other types, dims and data."""
    if not model.graph.initializer:
        return
    tensor = model.graph.initializer[draw(st.integers(0, len(model.graph.initializer) - 1))]
    kind = draw(st.sampled_from(("type", "dim", "rank", "data", "name")))
    if kind == "type":
        tensor.data_type = draw(st.sampled_from(TYPES))
    elif kind == "dim" and tensor.dims:
        tensor.dims[0] = draw(st.sampled_from(NUMBERS))
    elif kind == "rank":
        tensor.dims.append(draw(st.sampled_from(NUMBERS)))
    elif kind == "name":
        tensor.name = draw(st.sampled_from(NAMES))
    elif tensor.int64_data:
        tensor.int64_data[0] = draw(st.sampled_from(NUMBERS))
    elif tensor.float_data:
        tensor.float_data[0] = draw(st.sampled_from((float("nan"), float("inf"), 1e38)))


def _signature(draw: Any, model: ModelProto) -> None:
    """Inputs and outputs of other names, types, dims and ranks; another operator set."""
    infos = [*model.graph.input, *model.graph.output]
    info = infos[draw(st.integers(0, len(infos) - 1))]
    kind = draw(st.sampled_from(("name", "type", "dim", "rank", "shape", "sequence", "opset")))
    tensor = info.type.tensor_type
    if kind == "name":
        info.name = draw(st.sampled_from(NAMES))
    elif kind == "type":
        tensor.elem_type = draw(st.sampled_from(TYPES))
    elif kind == "dim" and tensor.shape.dim:
        tensor.shape.dim[0].dim_value = draw(st.sampled_from(NUMBERS))
    elif kind == "rank":
        tensor.shape.dim.add(dim_value=draw(st.sampled_from(NUMBERS)))
    elif kind == "shape":
        tensor.ClearField("shape")
    elif kind == "sequence":
        info.type.sequence_type.elem_type.tensor_type.elem_type = 1
    elif kind == "opset":
        model.opset_import[0].version = draw(st.sampled_from((-1, 0, 1, 7, 13, 18, 23, 24, 2**40)))


CHANGES: tuple[Callable[[Any, ModelProto], None], ...] = (_nodes, _attributes, _weights, _signature)
FILES = tuple(parser.parse_model(text).SerializeToString() for text in TEXTS)


@settings(max_examples=80)
@given(data=st.sampled_from(FILES).flatmap(damaged))
def test_damaged_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    compiled(data, tmp_path_factory.mktemp("bytes"))


@settings(max_examples=80)
@given(model=changed())
def test_changed_fields(tmp_path_factory: pytest.TempPathFactory, model: ModelProto) -> None:
    compiled(model.SerializeToString(), tmp_path_factory.mktemp("fields"))


@pytest.mark.slow
@settings(max_examples=1500)
@given(data=st.sampled_from(FILES).flatmap(damaged))
def test_many_damaged_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    compiled(data, tmp_path_factory.mktemp("bytes"))


@pytest.mark.slow
@settings(max_examples=1500)
@given(model=changed())
def test_many_changed_fields(tmp_path_factory: pytest.TempPathFactory, model: ModelProto) -> None:
    compiled(model.SerializeToString(), tmp_path_factory.mktemp("fields"))


def test_the_files_themselves_compile(tmp_path: Path) -> None:
    assert [compiled(data, tmp_path) for data in FILES] == ["ok", "ok"]


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    for place in (b"table", b"flat", b"sum", b"Relu", b"net"):
        data = FILES[0].replace(place, b"\xc7" + place[1:])
        assert data != FILES[0]
        assert compiled(data, tmp_path) == "HETC-I305", place


Made = dict[str, Any]


def _model(
    nodes: list[NodeProto],
    weights: list[TensorProto] = [],  # noqa: B006  (never changed)
    shape: tuple[int | str, ...] = ("N", 4),
    result: tuple[int | str, ...] = ("a", "b"),
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def _integers(name: str, *numbers: int) -> TensorProto:
    return helper.make_tensor(name, TensorProto.INT64, [len(numbers)], numbers)


def _scalar(name: str, number: int) -> TensorProto:
    return helper.make_tensor(name, TensorProto.INT64, [], [number])


def _node(kind: str, inputs: str, outputs: str = "y", **attributes: Any) -> NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def _exploding() -> ModelProto:
    """Thirty functions, each of which calls the next one twice: 1.6 billion nodes."""
    model = _model([_node("F0", "x", domain="d")])
    model.opset_import.append(helper.make_opsetid("d", 1))
    for level in range(30):
        inner = f"F{level + 1}"
        twice = [_node(inner, "a", "t", domain="d"), _node(inner, "t", "b", domain="d")]
        body = twice if level < 29 else [_node("Relu", "a", "b")]
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("d", 1)]
        model.functions.append(helper.make_function("d", f"F{level}", ["a"], ["b"], body, opsets))
    return model


def _circle() -> ModelProto:
    model = _model([_node("F", "x", domain="d")])
    model.opset_import.append(helper.make_opsetid("d", 1))
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("d", 1)]
    body = [_node("F", "a", "b", domain="d")]
    model.functions.append(helper.make_function("d", "F", ["a"], ["b"], body, opsets))
    return model


_HUGE = 2**40
ABSURD: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "functions that explode": (_exploding, "HETC-I305"),
    "a function that calls itself": (_circle, "HETC-I305"),
    "expand": (
        lambda: _model(
            [_node("Expand", "x s")], [_integers("s", _HUGE, 2, 4)], result=("a", "b", "c")
        ),
        "HETC-V006",
    ),
    "tile": (lambda: _model([_node("Tile", "x s")], [_integers("s", _HUGE, 1)]), "HETC-V006"),
    "pad": (lambda: _model([_node("Pad", "x s")], [_integers("s", _HUGE, 0, 0, 0)]), "HETC-V006"),
    "range": (
        lambda: _model(
            [
                _node("Range", "a b c", "r"),
                _node("Cast", "r", "f", to=1),
                _node("ReduceSum", "f", "s", keepdims=0),
                _node("Add", "s x"),
            ],
            [_scalar("a", 0), _scalar("b", _HUGE), _scalar("c", 1)],
        ),
        "HETC-V006",
    ),
    "an axis": (
        lambda: _model([_node("Relu", "x")], shape=("N", 2**62), result=("N", 2**62)),
        "HETC-I012",
    ),
    "a hundred axes": (
        lambda: _model([_node("Relu", "x")], shape=(1,) * 100, result=(1,) * 100),
        "HETC-I012",
    ),
    "no element": (lambda: _model([_node("Relu", "x")], shape=(0, 4), result=(0, 4)), "ok"),
    "a product over nothing": (
        lambda: _model(
            [_node("MatMul", "x w")],
            [helper.make_tensor("w", TensorProto.FLOAT, [0, 3], [])],
            shape=("N", 0),
        ),
        "ok",
    ),
}


@pytest.mark.parametrize("name", ABSURD)
def test_absurd_sizes(name: str, tmp_path: Path) -> None:
    make, expected = ABSURD[name]
    assert compiled(make().SerializeToString(), tmp_path) == expected


def _external(folder: Path, **entries: Any) -> Path:
    """The model with its table in another file, as `entries` say; the data are in `table.bin`."""
    model = parser.parse_model(FUNCTION)
    (tensor,) = (item for item in model.graph.initializer if item.name == "table")
    numbers = bytes(4 * 168)
    tensor.ClearField("float_data")
    tensor.raw_data = b""
    set_external_data(tensor, **{"location": "table.bin", **entries})
    tensor.ClearField("raw_data")
    (folder / "table.bin").write_bytes(numbers)
    path: Path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


OUTSIDE = (
    "../secret",
    "sub/../../secret",
    "/etc/passwd",
    "C:\\secret",
    "..\\secret",
    "",
    ".",
    "\n",
)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder beside a file that nothing may read or change."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"\x07" * 4 * 168)
    inside = tmp_path / "inside"
    inside.mkdir()
    yield inside
    assert secret.read_bytes() == b"\x07" * 4 * 168
    assert {entry.name for entry in tmp_path.iterdir()} == {"secret", "inside"}


def _refused(path: Path) -> HetcError:
    with pytest.raises(HetcError) as caught:
        compile_bundle(path, path.parent / "out", CompileOptions())
    assert not (path.parent / "out").exists()
    return caught.value


@pytest.mark.parametrize("location", OUTSIDE)
def test_external_data_elsewhere(location: str, folder: Path) -> None:
    error = _refused(_external(folder, location=location))
    assert error.code in ("HETC-I303", "HETC-I304", "HETC-I305"), error


@pytest.mark.parametrize("kind", ["symbolic", "hard", "folder"])
def test_links_to_external_data(kind: str, folder: Path) -> None:
    path = _external(folder)
    data = folder / "table.bin"
    data.unlink()
    if kind == "symbolic":
        data.symlink_to(folder.parent / "secret")
    elif kind == "hard":
        os.link(folder.parent / "secret", data)
    else:
        (folder / "sub").symlink_to(folder.parent)
        path = _external(folder, location="sub/secret")
    assert _refused(path).code == "HETC-I303"


@pytest.mark.parametrize(
    "entries",
    [
        {"offset": 1},
        {"offset": 4 * 168},
        {"offset": 2**62},
        {"length": 1},
        {"length": 4 * 169},
        {"length": 2**62},
    ],
)
def test_offsets_and_lengths_out_of_range(entries: dict[str, int], folder: Path) -> None:
    assert _refused(_external(folder, **entries)).code == "HETC-I304"


def test_external_data_compiles(folder: Path) -> None:
    path = _external(folder)
    assert compile_bundle(path, folder / "out", CompileOptions()).manifest.kind == "runnable"
    assert onnx.load(str(path), load_external_data=False).graph.initializer
