"""Files that lie, leave their folder or are damaged: one clear error each, and nothing executed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper
from onnx.external_data_helper import set_external_data

from hetc.errors import InputError
from hetc.frontends.onnx import import_onnx, load_onnx
from hetc.ir.dims import symbol
from hetc.ir.interpret import interpret
from hetc.ir.types import Array
from tests.frontends.onnx_exports import write_text
from tests.golden import Golden

TABLE = np.arange(64, dtype=np.float32).reshape(16, 4) / 64
BIGRAM = """
lm (int64[batch, sequence] input_ids) => (float[batch, sequence, 16] logits)
<float[16, 4] table = {NUMBERS}>
{
  hidden = Gather (table, input_ids)
  transposed = Transpose <perm = [1, 0]> (table)
  logits = MatMul (hidden, transposed)
}
""".replace("NUMBERS", ", ".join(str(number) for number in TABLE.flat))


@pytest.fixture
def inline(tmp_path: Path) -> Path:
    return write_text(tmp_path / "bigram.onnx", BIGRAM)


@pytest.fixture
def external(inline: Path) -> Path:
    """The same model with its table in `bigram.data`."""
    model = onnx.load_model(str(inline))
    (tensor,) = model.graph.initializer
    _point(tensor, "bigram.data")
    (inline.parent / "bigram.data").write_bytes(TABLE.tobytes())
    onnx.save_model(model, str(inline))
    return inline


def _point(tensor: TensorProto, location: str, offset: int = 0, length: int | None = None) -> None:
    tensor.ClearField("float_data")
    tensor.raw_data = b""
    set_external_data(tensor, location, offset=offset, length=length)
    tensor.ClearField("raw_data")


def _edit(path: Path, change: Callable[[ModelProto], None]) -> None:
    model = onnx.load_model(str(path), load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())


def _logits(path: Path, ids: Array) -> Array:
    model = import_onnx(load_onnx(path), path)
    return interpret(model.graph, [ids], lambda name: model.weights[name].load())[0]


def test_inline_and_external_weights_are_the_same(inline: Path) -> None:
    ids = np.array([[1, 5, 9]])
    expected = TABLE[ids] @ TABLE.T
    np.testing.assert_allclose(_logits(inline, ids), expected, rtol=1e-6)


def test_external_weights_are_mapped(external: Path) -> None:
    ids = np.array([[1, 5, 9]])
    np.testing.assert_allclose(_logits(external, ids), TABLE[ids] @ TABLE.T, rtol=1e-6)
    model = import_onnx(load_onnx(external), external)
    assert set(model.weights) == {"table"}
    owner: object = model.weights["table"].load()
    while isinstance(owner, np.ndarray) and not isinstance(owner, np.memmap):
        owner = owner.base
    assert isinstance(owner, np.memmap)


def test_offset_and_length_of_external_data(external: Path) -> None:
    (external.parent / "bigram.data").write_bytes(b"\0" * 4096 + TABLE.tobytes())
    _edit(external, lambda m: _point(m.graph.initializer[0], "bigram.data", 4096, TABLE.nbytes))
    ids = np.array([[3]])
    np.testing.assert_allclose(_logits(external, ids), TABLE[ids] @ TABLE.T, rtol=1e-6)


@pytest.mark.parametrize(
    "location",
    [
        "../bigram.data",
        "sub/../../bigram.data",
        "/etc/passwd",
        "C:\\data",
        "..\\bigram.data",
        "\\\\host\\share",
        "",
        ".",
    ],
)
def test_external_data_outside_the_folder_is_refused(external: Path, location: str) -> None:
    _edit(external, lambda m: _point(m.graph.initializer[0], location))
    with pytest.raises(InputError, match="HETC-I303"):
        load_onnx(external)


def test_links_to_external_data_are_refused(external: Path, tmp_path: Path) -> None:
    data = external.parent / "bigram.data"
    outside = tmp_path / "outside"
    outside.mkdir()
    secret = outside / "secret"
    data.rename(secret)
    os.link(secret, data)
    with pytest.raises(InputError, match="hard link"):
        load_onnx(external)
    data.unlink()
    data.symlink_to(secret)
    with pytest.raises(InputError, match="symbolic link"):
        load_onnx(external)
    (external.parent / "folder").symlink_to(outside)
    _edit(external, lambda m: _point(m.graph.initializer[0], "folder/secret"))
    with pytest.raises(InputError, match="symbolic link"):
        load_onnx(external)


def test_file_swapped_after_the_check_is_refused(external: Path, tmp_path: Path) -> None:
    model = import_onnx(load_onnx(external), external)
    data = external.parent / "bigram.data"
    other = tmp_path / "other"
    data.rename(other)
    data.symlink_to(other)
    with pytest.raises(InputError, match="HETC-I304"):
        model.weights["table"].load()
    data.unlink()
    data.write_bytes(TABLE.tobytes()[:-1])
    with pytest.raises(InputError, match="too short"):
        model.weights["table"].load()


def test_missing_short_and_wrong_external_data(external: Path) -> None:
    data = external.parent / "bigram.data"
    data.write_bytes(TABLE.tobytes()[:-4])
    with pytest.raises(InputError, match="too short"):
        load_onnx(external)
    data.unlink()
    with pytest.raises(InputError, match="HETC-I304"):
        load_onnx(external)
    data.mkdir()
    with pytest.raises(InputError, match="not a plain file"):
        load_onnx(external)
    _edit(external, lambda m: _point(m.graph.initializer[0], "bigram.data", 0, 8))
    with pytest.raises(InputError, match="another length"):
        load_onnx(external)


def test_fixed_batch_is_kept_and_noted(inline: Path) -> None:
    def fix(model: ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3

    _edit(inline, fix)
    model = import_onnx(load_onnx(inline), inline)
    assert model.graph.inputs[0].shape == (3, symbol("S"))
    assert model.notes == ("the batch is fixed at 3 by the ONNX file",)


def test_past_and_present_that_do_not_match(inline: Path) -> None:
    def add_past(model: ModelProto) -> None:
        past = model.graph.input.add(name="past_key_values.0.key")
        past.type.tensor_type.elem_type = TensorProto.FLOAT
        for dim in ("batch", 2, "past", 8):
            size = past.type.tensor_type.shape.dim.add()
            setattr(size, "dim_value" if isinstance(dim, int) else "dim_param", dim)

    _edit(inline, add_past)
    with pytest.raises(InputError, match="HETC-I309"):
        import_onnx(load_onnx(inline), inline)


def test_shape_that_the_data_does_not_fill(inline: Path) -> None:
    def grow(model: ModelProto) -> None:
        model.graph.initializer[0].dims[0] = 2**38

    _edit(inline, grow)
    with pytest.raises(InputError, match="HETC-I315"):
        load_onnx(inline)


def test_element_type_without_a_counterpart(inline: Path) -> None:
    def retype(model: ModelProto) -> None:
        tensor = numpy_helper.from_array(TABLE.astype(np.complex128), "table")
        model.graph.initializer[0].CopyFrom(tensor)

    _edit(inline, retype)
    with pytest.raises(InputError, match="HETC-I313"):
        load_onnx(inline)


def test_error_messages(inline: Path, tmp_path: Path, golden: Golden) -> None:
    def message(change: Callable[[ModelProto], None], *, name: str = "bigram.onnx") -> str:
        path = tmp_path / name
        model = onnx.load_model(str(inline))
        change(model)
        path.write_bytes(model.SerializeToString())
        with pytest.raises(InputError) as error:
            import_onnx(load_onnx(path), path)
        return str(error.value).replace(str(tmp_path), "FOLDER")

    def set_static(model: ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 8

    def add_input(model: ModelProto) -> None:
        extra = model.graph.input.add()
        extra.CopyFrom(model.graph.input[0])
        extra.name = "pixel_values"

    def no_tokens(model: ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT

    def transposed(model: ModelProto) -> None:
        model.graph.node[2].input[1] = "table"

    def misordered(model: ModelProto) -> None:
        model.graph.node[0].input[0] = "logits"

    def no_output(model: ModelProto) -> None:
        model.graph.output[0].name = "hidden_"
        model.graph.node[2].op_type = "Shape"
        del model.graph.node[2].input[1]
        model.graph.node[2].output[0] = "hidden_"
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64

    texts = []
    missing = tmp_path / "none.onnx"
    with pytest.raises(InputError) as error:
        load_onnx(missing)
    texts.append(str(error.value).replace(str(tmp_path), "FOLDER"))
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"\x7fELF" + bytes(range(200)))
    with pytest.raises(InputError) as error:
        load_onnx(garbage)
    texts.append(str(error.value).splitlines()[0])
    changes = (set_static, add_input, no_tokens, transposed, misordered, no_output)
    texts += [f"# {change.__name__}\n{message(change, name='m.onnx')}" for change in changes]
    golden("onnx_errors.txt", "\n\n".join(texts))


def test_damaged_bytes_give_one_error(inline: Path, tmp_path: Path) -> None:
    content = inline.read_bytes()
    source = random.Random(11)
    path = tmp_path / "damaged.onnx"
    refused = 0
    for round_ in range(400):
        damaged = bytearray(content)
        if round_ % 2:
            del damaged[source.randrange(len(damaged)) :]
        for _ in range(source.randrange(0 if round_ % 2 else 1, 4)):
            if damaged:
                damaged[source.randrange(len(damaged))] ^= 1 << source.randrange(8)
        path.write_bytes(damaged)
        try:
            import_onnx(load_onnx(path), path)
        except InputError:
            refused += 1
    assert refused > 200
