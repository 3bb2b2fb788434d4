"""The reference and null executors under the runtime, with a bundle of both backends' files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hetc.backends.reference import (
    NullExecutor,
    ReferenceBackend,
    ReferenceExecutor,
    null_executors,
    reference_executors,
)
from hetc.bundle import HalfEntry, open_bundle
from hetc.bundle.contract import Phase
from hetc.errors import BackendError
from hetc.ir.interpret import interpret
from hetc.ir.op import Value
from hetc.ir.ops.control import AllReduce, Opaque
from hetc.ir.text import parse
from hetc.ir.types import BF16, F32, TensorType
from hetc.passes.synthesize_state import synthesize_state
from hetc.runtime import Bundle, load, onnx_executors
from hetc.runtime.executor import Executor, ExecutorFactory
from hetc.runtime.halves import Halves
from hetc.runtime.state import State
from tests.backends.bundles import write_bundle
from tests.backends.llama import Llama

TOKENS = np.random.default_rng(3).integers(0, 61, (2, 8))
MODELS = {"f32": Llama(), "bf16": Llama(dtype=BF16), "window": Llama(window=3)}


@pytest.fixture(scope="module", params=sorted(MODELS))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model's bundle, the logits of `forward` on TOKENS, and how far a step may be from them."""
    model = MODELS[request.param]
    graph = model.graph()
    weights = model.weights(graph)
    program = synthesize_state(graph, weights.__getitem__, 32)
    folder = tmp_path_factory.mktemp(request.param)
    path = write_bundle(folder / "bundle", program, weights, model.vocab)
    (expected,) = interpret(graph, [TOKENS], weights.__getitem__)
    return path, expected, 1e-5 if model.dtype is F32 else 0.1


def split_run(bundle: Bundle | Halves, hand_off: Callable[[State], State]) -> np.ndarray[Any, Any]:
    logits, state = bundle.prefill(TOKENS[:, :5])
    rows = [logits]
    state = hand_off(state)
    for start, stop in ((5, 6), (6, 8)):
        logits, state = bundle.decode(TOKENS[:, start:stop], state)
        rows.append(logits)
    return np.concatenate(rows, axis=1)


@pytest.mark.parametrize("executor", ["reference", "onnx"])
def test_a_bundle_runs_as_forward(made: Any, executor: str) -> None:
    path, expected, tolerance = made
    with load(path, executors={"reference": reference_executors(State)}, executor=executor) as b:
        assert b.executors == {"prefill": executor, "decode": executor}
        found = split_run(b, lambda state: state)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected[:, 4:], atol=tolerance)


def test_prefill_by_one_and_decode_by_the_other(made: Any, request: pytest.FixtureRequest) -> None:
    path, expected, tolerance = made
    factories: list[ExecutorFactory] = [reference_executors(State), onnx_executors()]
    files = open_bundle(path)
    for first, second in (factories, factories[::-1]):
        prefill, decode = first(), second()
        prefill.prepare(files, "prefill")
        decode.prepare(files, "decode")
        sha = files.manifest.contract_sha256
        both = Halves(prefill, decode, files.contract, sha, 61, 32)
        found = split_run(both, lambda state, both=both: both.hand_off(state)[0])  # type: ignore[misc]
        np.testing.assert_allclose(found, expected[:, 4:], atol=tolerance)


def test_null_records_and_answers_zeros(made: Any) -> None:
    path, expected, _ = made
    executors: list[NullExecutor[State]] = []

    def factory() -> Executor:
        executors.append(null_executors(State)())
        return executors[-1]

    with load(path, executors={"null": factory}, executor="null") as bundle:
        found = split_run(bundle, lambda state: state)
    np.testing.assert_array_equal(found, np.zeros_like(expected[:, 4:]))
    decode = next(e for e in executors if ("prepare", "decode") in e.calls)
    assert [call for call in decode.calls if call[0] == "run"] == [
        ("run", 2, 1, 5),
        ("run", 2, 2, 6),
    ]
    assert decode.calls[-1] == ("close",)


def test_the_backend_writes_the_text_form(made: Any) -> None:
    files = open_bundle(made[0])
    text = files.read_bytes("decode/graph.hetc")
    assert ReferenceBackend().emit(parse(text.decode())) == {"graph.hetc": text}


def test_a_half_that_is_the_other_is_refused(made: Any) -> None:
    files = open_bundle(made[0])
    halves: dict[Phase, HalfEntry] = {"prefill": files.manifest.halves["decode"]}
    files.manifest = replace(files.manifest, halves=halves)
    with pytest.raises(BackendError) as error:
        ReferenceExecutor(State).prepare(files, "prefill")
    assert error.value.code == "HETC-E015"
    assert error.value.found.startswith("layer0.")


def test_a_closed_executor_says_so(made: Any) -> None:
    executor = ReferenceExecutor(State)
    executor.prepare(open_bundle(made[0]), "prefill")
    executor.close()
    executor.close()
    with pytest.raises(BackendError, match="this executor is closed"):
        executor.run(TOKENS, None)


def test_what_the_reference_cannot_run() -> None:
    x = Value(TensorType(F32, (2,)), name="x")
    backend = ReferenceBackend()
    unknown = Opaque((x,), "tosa", "tosa.rescale", "{}", (x.type,), loc="a.b")
    shards = AllReduce(x, 4)
    codes = [
        reason and (reason.code, reason.at) for reason in map(backend.supports, (unknown, shards))
    ]
    assert codes == [("HETC-E010", "a.b"), ("HETC-E010", "all_reduce")]
