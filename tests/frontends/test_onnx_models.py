"""Exported decoders: the graph computes what ONNX Runtime and torch compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import version_converter

from hetc.frontends.onnx import ImportedOnnx, import_onnx, load_onnx
from hetc.ir.dims import symbol
from hetc.ir.interpret import interpret
from hetc.ir.types import I64, Array
from tests.frontends.onnx_exports import (
    LAYERS,
    VOCABULARY,
    Exported,
    export_legacy,
    export_stateless,
    export_with_past,
)

SIZES = ((2, 5, 4), (1, 9, 0), (3, 1, 6))


def imported(path: Path) -> ImportedOnnx:
    return import_onnx(load_onnx(path), path)


def run(model: ImportedOnnx, inputs: list[Array]) -> tuple[Array, ...]:
    return interpret(model.graph, inputs, lambda name: model.weights[name].load())


def runtime(path: Path) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, dict(feeds)), strict=True))


def tokens(batch: int, rows: int) -> Array:
    return np.random.default_rng(batch * 100 + rows).integers(0, VOCABULARY, (batch, rows))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module", params=["llama", "gpt2", "qwen2"])
def stateless(request: pytest.FixtureRequest, folder: Path) -> Exported:
    return export_stateless(request.param, folder)


@pytest.fixture(scope="module", params=["llama", "gpt2", "qwen2"])
def with_past(request: pytest.FixtureRequest, folder: Path) -> Exported:
    return export_with_past(request.param, folder)


def test_stateless_decoder(stateless: Exported) -> None:
    model = imported(stateless.path)
    session = runtime(stateless.path)
    assert model.kind == "stateless"
    assert (model.opaque, model.pasts) == ((), ())
    (entry,) = model.graph.inputs
    assert (entry.name, entry.dtype, entry.shape) == ("tokens", I64, (symbol("B"), symbol("S")))
    assert model.graph.outputs[0].shape == (symbol("B"), symbol("S"), VOCABULARY)
    assert stateless.path.with_suffix(".onnx.data").exists() == ("qwen2" in stateless.path.name)
    for batch, rows, _ in SIZES:
        ids = tokens(batch, rows)
        (logits,) = run(model, [ids])
        with torch.no_grad():
            eager = stateless.model(torch.from_numpy(ids)).logits.numpy()
        np.testing.assert_allclose(logits, session({"input_ids": ids})["logits"], atol=1e-4)
        np.testing.assert_allclose(logits, eager, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("export", "family", "opset"),
    [
        *((export_stateless, "llama", opset) for opset in (18, 20, 22, 23, 24, 25)),
        *((export_legacy, "llama", opset) for opset in (14, 18, 20)),
        # The tracing exporter has the attention of llama from operator set 14 on.
        (export_legacy, "gpt2", 13),
    ],
)
def test_operator_sets_of_both_exporters(
    export: Callable[..., Exported], family: str, opset: int, tmp_path: Path
) -> None:
    exported = export(family, tmp_path, opset)
    imports = {item.domain: item.version for item in onnx.load(exported.path).opset_import}
    assert imports[""] == opset
    model = imported(exported.path)
    assert model.opaque == ()
    ids = tokens(2, 6)
    (logits,) = run(model, [ids])
    with torch.no_grad():
        expected = exported.model(torch.from_numpy(ids)).logits.numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4)


@pytest.mark.slow
def test_a_model_that_onnx_converted_to_an_older_operator_set(tmp_path: Path) -> None:
    exported = export_legacy("llama", tmp_path, 17)
    # Further down ONNX has no converter for what the exporter writes.
    older = version_converter.convert_version(onnx.load(exported.path), 16)
    onnx.save(older, tmp_path / "older.onnx")
    model = imported(tmp_path / "older.onnx")
    assert model.opaque == ()
    (found,) = run(model, [tokens(2, 6)])
    (expected,) = run(imported(exported.path), [tokens(2, 6)])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_decoder_with_past(with_past: Exported) -> None:
    model = imported(with_past.path)
    session = runtime(with_past.path)
    parts = [f"{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")]
    assert model.kind == "with_past"
    assert model.opaque == ()
    assert model.pasts == tuple((f"past_key_values.{p}", f"present.{p}") for p in parts)
    assert model.graph.output_names == ("logits", *(f"present.{p}" for p in parts))
    first = model.graph.inputs[1]
    assert (first.name, first.shape[0], first.shape[2]) == (
        "past_key_values.0.key",
        symbol("B"),
        symbol("P"),
    )
    assert model.graph.outputs[1].shape[2] == symbol("P") + symbol("T")
    rng = np.random.default_rng(0)
    for batch, rows, before in SIZES:
        ids = tokens(batch, rows)
        heads = first.shape[1]
        assert isinstance(heads, int)
        shape = (batch, heads, before, 8)
        past = [rng.standard_normal(shape).astype(np.float32) for _ in parts]
        feeds = {f"past_key_values.{p}": array for p, array in zip(parts, past, strict=True)}
        feeds |= {"input_ids": ids, "attention_mask": np.ones((batch, before + rows), np.int64)}
        feeds["position_ids"] = np.tile(np.arange(rows) + before, (batch, 1))
        used = {entry.name for entry in _inputs(with_past.path)}
        expected = session({name: array for name, array in feeds.items() if name in used})
        results = run(model, [ids, *past])
        for name, found in zip(model.graph.output_names, results, strict=True):
            np.testing.assert_allclose(found, expected[name], atol=1e-4, err_msg=name)


def _inputs(path: Path) -> list[onnxruntime.NodeArg]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return list(session.get_inputs())


def test_steps_with_past_equal_torch_on_the_whole(with_past: Exported) -> None:
    model = imported(with_past.path)
    ids = tokens(2, 7)
    with torch.no_grad():
        whole = with_past.model(torch.from_numpy(ids)).logits.numpy()
    empty = [
        np.zeros([2, *(d if isinstance(d, int) else 0 for d in value.shape[1:])], np.float32)
        for value in model.graph.inputs[1:]
    ]
    state: list[Array] = empty
    for start, stop in ((0, 4), (4, 5), (5, 7)):
        logits, *state = run(model, [ids[:, start:stop], *state])
        np.testing.assert_allclose(logits, whole[:, start:stop], atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_decoder_of_the_tracing_exporter(family: str, folder: Path) -> None:
    exported = export_legacy(family, folder)
    model = imported(exported.path)
    assert model.kind == "stateless"
    assert model.opaque == ()
    assert "attention_mask is all ones: prompts are not padded" in model.notes
    for batch, rows, _ in SIZES:
        ids = tokens(batch, rows)
        with torch.no_grad():
            eager = exported.model(torch.from_numpy(ids)).logits.numpy()
        np.testing.assert_allclose(run(model, [ids])[0], eager, atol=1e-4)
    locations = {op.loc for op in model.graph.ops if op.kind == "linear"}
    assert any(
        loc.endswith("0.mlp.up_proj" if family == "llama" else "h.0.mlp.c_fc") for loc in locations
    )


def test_fused_operators_of_opset_23(folder: Path) -> None:
    exported = export_stateless("llama", folder, opset=23)
    model = imported(exported.path)
    kinds = [op.kind for op in model.graph.ops]
    assert kinds.count("attention") == LAYERS
    assert kinds.count("rope") == 2 * LAYERS
    assert kinds.count("rms_norm") == 2 * LAYERS + 1
    ids = tokens(2, 6)
    with torch.no_grad():
        eager = exported.model(torch.from_numpy(ids)).logits.numpy()
    np.testing.assert_allclose(run(model, [ids])[0], eager, atol=1e-4)


def test_weights_have_the_names_of_their_modules(stateless: Exported) -> None:
    model = imported(stateless.path)
    names = set(model.weights)
    if "gpt2" in stateless.path.name:
        # The output matrix is tied to the embedding; the exporter wrote it twice.
        assert sum(data.shape == (VOCABULARY, 32) for data in model.weights.values()) == 1
        assert model.max_sequence == 48
    else:
        assert "model.model.layers.1.mlp.down_proj.weight" in names
        assert model.weights["model.model.layers.1.mlp.down_proj.weight"].shape == (32, 48)
        assert model.max_sequence is None
    assert not any(name.startswith("val_") for name in names)


def test_no_shape_arithmetic_is_left(stateless: Exported) -> None:
    kinds = {op.kind for op in imported(stateless.path).graph.ops}
    assert not kinds & {"full", "constant", "opaque", "tile"}
