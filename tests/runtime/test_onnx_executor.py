"""ONNX Runtime as an executor, on a two-half ONNX model made by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from hetc.bundle import open_bundle
from hetc.errors import BundleError, HetcError, MissingDependency, RuntimeFault
from hetc.runtime import Bundle, OnnxOptions, State, load, onnx_executors
from hetc.runtime.executor import ExecutorFactory, Half
from hetc.runtime.halves import Halves
from hetc.runtime.onnx_executor import OnnxExecutor, OrtTensor, SharedWeights
from tests.runtime.toy import (
    HIDDEN,
    STATE,
    VOCAB,
    NumpyExecutor,
    forward,
    onnx_half,
    weights,
    write_toy_bundle,
)

onnx = pytest.importorskip("onnx")
TOKENS = np.array([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])
BOTH = ("onnx", "toy")


@pytest.fixture
def onnx_path(tmp_path: Path) -> Path:
    """The toy with both halves as ONNX files."""
    return write_toy_bundle(tmp_path / "onnx", executors=BOTH, onnx=onnx_half)


def halves(path: Path, prefill: ExecutorFactory, decode: ExecutorFactory) -> Halves:
    """Halves of one bundle on two different executors."""
    files = open_bundle(path)
    first, second = prefill(), decode()
    first.prepare(files, "prefill")
    second.prepare(files, "decode")
    sha = files.manifest.contract_sha256
    return Halves(first, second, files.contract, sha, VOCAB, 64)


@pytest.mark.parametrize("split", [1, 4])
@pytest.mark.parametrize("at_once", [1, 2])
def test_prefill_then_decode_is_forward(onnx_path: Path, split: int, at_once: int) -> None:
    expected = forward(weights(), TOKENS)
    with load(onnx_path) as bundle:
        assert bundle.executors == {"prefill": "onnx", "decode": "onnx"}
        logits, state = bundle.prefill(TOKENS[:, :split])
        np.testing.assert_allclose(logits, expected[:, split - 1 : split], atol=1e-5)
        for start in range(split, 6, at_once):
            stop = min(start + at_once, 6)
            logits, state = bundle.decode(TOKENS[:, start:stop], state)
            np.testing.assert_allclose(logits, expected[:, start:stop], atol=1e-5)


def test_text_is_that_of_the_numpy_executor(onnx_path: Path) -> None:
    prompts = ["hello", "world", "é"]
    with load(onnx_path) as bundle:
        found = bundle.generate(prompts, max_new_tokens=12, ignore_eos=True)
    with load(onnx_path, executors={"toy": NumpyExecutor}, executor="toy") as bundle:
        expected = bundle.generate(prompts, max_new_tokens=12, ignore_eos=True)
    assert [g.token_ids for g in found] == [g.token_ids for g in expected]
    assert found[0].executors == {"prefill": "onnx", "decode": "onnx"}


@pytest.mark.parametrize(
    ("prefill", "decode"), [(onnx_executors(), NumpyExecutor), (NumpyExecutor, onnx_executors())]
)
def test_halves_on_different_executors_hand_off(
    onnx_path: Path, prefill: ExecutorFactory, decode: ExecutorFactory
) -> None:
    expected = forward(weights(), TOKENS)
    pair = halves(onnx_path, prefill, decode)
    _, state = pair.prefill(TOKENS[:, :3])
    state, record = pair.hand_off(state)
    assert record.bytes == 2 * 3 * HIDDEN * 4
    logits, state = pair.decode(TOKENS[:, 3:4], state)
    logits, state = pair.decode(TOKENS[:, 4:], state)
    np.testing.assert_allclose(logits, expected[:, 4:], atol=1e-5)
    pair.close()


def test_the_state_stays_in_the_library_between_steps(onnx_path: Path) -> None:
    with load(onnx_path) as bundle:
        _, state = bundle.prefill([1, 2, 3])
        _, state = bundle.decode([4], state)
        tensor = state.tensors[STATE]
        assert isinstance(tensor, OrtTensor)
        assert (state.shape(STATE), state.dtype(STATE)) == ((1, 4, HIDDEN), "f32")
        _, after = bundle.decode([5], state.copy())
        np.testing.assert_array_equal(after.numpy(STATE)[:, :4], state.numpy(STATE))


def test_the_same_run_gives_the_same_bits(onnx_path: Path) -> None:
    with load(onnx_path) as bundle:
        first, _ = bundle.prefill(TOKENS)
        second, _ = bundle.prefill(TOKENS)
    np.testing.assert_array_equal(first, second)


def test_a_half_that_takes_past_is_told(tmp_path: Path) -> None:
    def with_past(half: Half) -> bytes:
        model = onnx.load_from_string(onnx_half(half, takes_past=True))
        zero = onnx.helper.make_node("Cast", ["past"], ["past.f"], to=onnx.TensorProto.FLOAT)
        add = onnx.helper.make_node("Add", ["plain", "past.f"], ["logits"])
        model.graph.node[-1].output[0] = "plain"
        model.graph.node.extend([zero, add])
        return bytes(model.SerializeToString())

    expected = forward(weights(), TOKENS)
    with load(write_toy_bundle(tmp_path / "past", executors=BOTH, onnx=with_past)) as bundle:
        logits, state = bundle.prefill(TOKENS[:, :3])
        np.testing.assert_allclose(logits, expected[:, 2:3], atol=1e-5)
        logits, _ = bundle.decode(TOKENS[:, 3:4], state)
        np.testing.assert_allclose(logits, expected[:, 3:4] + 3, atol=1e-5)


def test_both_halves_read_the_same_weights_until_they_are_closed(onnx_path: Path) -> None:
    shared = SharedWeights()
    files = open_bundle(onnx_path)
    first, second = (OnnxExecutor(shared, OnnxOptions(threads=1)) for _ in range(2))
    first.prepare(files, "prefill")
    second.prepare(files, "decode")
    assert [array.dtype for array in first._held] == [np.float32, np.float32]
    for ours, theirs in zip(first._held, second._held, strict=True):
        assert ours is theirs
    expected, state = second.run(TOKENS, State("", 0, {STATE: np.zeros((2, 0, HIDDEN), "f4")}))
    first.close()
    again, _ = second.run(TOKENS, State("", 0, {STATE: np.zeros((2, 0, HIDDEN), "f4")}))
    np.testing.assert_array_equal(again, expected)
    assert state.shape(STATE) == (2, 6, HIDDEN)
    assert not shared._arrays


def test_a_file_may_leave_weights_unused_or_declare_them_bf16(tmp_path: Path) -> None:
    def declared_bf16(half: Half) -> bytes:
        model = onnx.load_from_string(onnx_half(half))
        for tensor in model.graph.initializer:
            if tensor.name == "head":
                tensor.data_type = onnx.TensorProto.BFLOAT16
                tensor.name = "head.bf16"
                tensor.external_data[0].value = "head.bf16"
        cast = onnx.helper.make_node("Cast", ["head.bf16"], ["head"], to=onnx.TensorProto.FLOAT)
        model.graph.node.insert(0, cast)
        return bytes(model.SerializeToString())

    stored = weights()
    stored = {"embed": stored["embed"], "head.bf16": stored["head"], "unused": stored["head"]}
    path = write_toy_bundle(tmp_path / "bf16", executors=BOTH, onnx=declared_bf16, tensors=stored)
    with load(path) as bundle:
        logits, _ = bundle.prefill(TOKENS)
    np.testing.assert_allclose(logits, forward(weights(), TOKENS)[:, -1:], atol=1e-5)


def edited(change: Callable[[Any], None]) -> Callable[[Half], bytes]:
    def build(half: Half) -> bytes:
        model = onnx.load_from_string(onnx_half(half))
        change(model)
        return bytes(model.SerializeToString())

    return build


def rename_weight(model: Any) -> None:
    model.graph.initializer[0].name = "elsewhere"
    model.graph.node[0].input[0] = "elsewhere"


def reshape_weight(model: Any) -> None:
    model.graph.initializer[0].dims[1] = HIDDEN + 1


def retype_weight(model: Any) -> None:
    model.graph.initializer[0].data_type = onnx.TensorProto.INT8


def string_weight(model: Any) -> None:
    model.graph.initializer[0].data_type = onnx.TensorProto.STRING


def drop_state(model: Any) -> None:
    del model.graph.output[1]


def rename_tokens(model: Any) -> None:
    model.graph.input[0].name = "input_ids"
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == "tokens":
                node.input[index] = "input_ids"


def unknown_op(model: Any) -> None:
    model.graph.node[3].op_type = "Tanhh"


def outside_constant(model: Any) -> None:
    tensor = onnx.TensorProto(name="passwd", data_type=1, dims=[1])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["c"], value=tensor))


@pytest.mark.parametrize(
    ("change", "code", "at"),
    [
        (rename_weight, "HETC-B013", "elsewhere"),
        (reshape_weight, "HETC-R006", "embed"),
        (retype_weight, "HETC-R006", "embed"),
        (string_weight, "HETC-R006", "embed"),
        (drop_state, "HETC-R009", "prefill/model.onnx"),
        (rename_tokens, "HETC-R009", "prefill/model.onnx"),
        (unknown_op, "HETC-R008", "prefill/model.onnx"),
        (outside_constant, "HETC-R007", "prefill/model.onnx: passwd"),
    ],
)
def test_files_that_do_not_fit_are_one_clear_error(
    tmp_path: Path, change: Callable[[Any], None], code: str, at: str
) -> None:
    path = write_toy_bundle(tmp_path / "bad", executors=("onnx",), onnx=edited(change))
    with pytest.raises(HetcError) as caught:
        load(path, executor="onnx")
    assert (caught.value.code, caught.value.at) == (code, at)
    # Files that contradict each other end the load; what an executor cannot do passes it over.
    said = code if code.startswith("HETC-B") else rf"HETC-R003(.|\n)*{code}"
    with pytest.raises(HetcError, match=said) as caught:
        load(path)
    assert isinstance(caught.value, BundleError) == code.startswith("HETC-B")


def test_a_bundle_without_onnx_files_says_so(tmp_path: Path) -> None:
    path = write_toy_bundle(tmp_path / "none", executors=("onnx",))
    with pytest.raises(RuntimeFault, match="HETC-R005"):
        load(path, executor="onnx")


def test_without_onnxruntime_the_next_executor_is_taken(
    onnx_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependency, match="onnxruntime"):
        load(onnx_path, executor="onnx")
    with load(onnx_path, executors={"toy": NumpyExecutor}) as bundle:
        assert bundle.executors["decode"] == "toy"
        (reason,) = bundle.fallbacks
        assert (reason.code, reason.at) == ("HETC-U001", "onnx")


def test_a_closed_executor_refuses(onnx_path: Path) -> None:
    bundle: Bundle = load(onnx_path)
    halves_of = bundle._runs
    bundle.close()
    assert isinstance(halves_of, Halves)
    with pytest.raises(RuntimeFault, match="HETC-R004"):
        halves_of.prefill(np.array([[1]]))


def test_ml_dtypes_and_numpy_agree_on_widening() -> None:
    values = np.array([1.0, -0.5, 3.140625], dtype=ml_dtypes.bfloat16)
    np.testing.assert_array_equal(np.ascontiguousarray(values, np.float32), [1.0, -0.5, 3.140625])
