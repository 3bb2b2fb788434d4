"""Bundles whose prefill runs on the stub and whose decode runs on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hetc.errors import RuntimeFault
from hetc.runtime import Bundle, load
from hetc.runtime.cuda import CudaExecutor
from hetc.runtime.cuda.driver import Driver
from tests.runtime import toy
from tests.runtime.cuda.stub_driver import StubBindings
from tests.runtime.cuda.toy_plan import TOY_KERNELS, write_toy

PROMPTS = [[1, 2, 3], [4, 5, 6], [7, 8], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]]


def load_on(stub: StubBindings, path: Path, executor: str | None = None) -> Bundle:
    def factory() -> CudaExecutor:
        return CudaExecutor(driver=Driver(stub))

    return load(path, executors={"cuda": factory}, executor=executor)


def test_text_is_that_of_the_cpu(toy_path: Path) -> None:
    stub = StubBindings(TOY_KERNELS)
    with (
        load(toy_path, executor="onnx") as alone,
        load_on(stub, toy_path) as split,
    ):
        assert split.executors == {"prefill": "cuda", "decode": "onnx"}
        assert split.fallbacks == ()
        for _ in range(3):
            expected = alone.generate(PROMPTS, max_new_tokens=8)
            found = split.generate(PROMPTS, max_new_tokens=8)
            assert [one.token_ids for one in found] == [one.token_ids for one in expected]
            assert found[0].executors == split.executors
        assert "cuGraphLaunch" in stub.calls
    assert stub.live == {}


def test_a_state_is_the_same_for_decode(toy_path: Path) -> None:
    """Digests before and after the hand-off, and a fork of the state."""
    stub = StubBindings(TOY_KERNELS)
    weights = toy.weights()
    prompt = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
    with load_on(stub, toy_path) as bundle:
        logits, state = bundle.prefill(prompt)
        np.testing.assert_allclose(logits, toy.forward(weights, prompt)[:, -1:], rtol=1e-5)
        digests = state.digests()
        fork = state.copy()
        assert fork.digests() == digests
        next_logits, after = bundle.decode([[8], [7]], state)
        whole = np.concatenate([prompt, [[8], [7]]], axis=1)
        np.testing.assert_allclose(
            next_logits, toy.forward(weights, whole)[:, -1:], rtol=1e-4, atol=1e-4
        )
        assert after.past == 6
        bundle.decode([[8], [7]], fork)


def test_without_a_gpu_a_cpu_executor_runs_both(toy_path: Path) -> None:
    with load_on(StubBindings(TOY_KERNELS, devices=0), toy_path) as bundle:
        assert bundle.executors == {"prefill": "onnx", "decode": "onnx"}
        (reason,) = bundle.fallbacks
        assert (reason.code, reason.at) == ("HETC-R050", "cuda")
        assert "CUDA_ERROR_NO_DEVICE" in reason.text
        assert bundle.generate([1, 2], max_new_tokens=2).new_tokens == 2


def test_asked_for_by_name_it_says_why_not(toy_path: Path) -> None:
    with pytest.raises(RuntimeFault, match="HETC-R050"):
        load_on(StubBindings(TOY_KERNELS, devices=0), toy_path, "cuda")


def test_by_name_decode_is_still_anothers(toy_path: Path) -> None:
    with load_on(StubBindings(TOY_KERNELS), toy_path, "cuda") as bundle:
        assert bundle.executors == {"prefill": "cuda", "decode": "onnx"}


def test_another_gpu_than_it_was_compiled_for(toy_path: Path) -> None:
    with load_on(StubBindings(TOY_KERNELS, capability=(10, 0)), toy_path) as bundle:
        (reason,) = bundle.fallbacks
        assert reason.code == "HETC-R055"
        assert "sm_80, sm_90" in reason.text


def test_sm_80_runs_on_later_ones_of_its_kind(toy_path: Path) -> None:
    with load_on(StubBindings(TOY_KERNELS, capability=(8, 9)), toy_path) as bundle:
        assert bundle.executors["prefill"] == "cuda"


def test_a_driver_that_is_too_old_for_the_kernels(toy_path: Path) -> None:
    stub = StubBindings(
        TOY_KERNELS, fails=lambda number, name: 222 if name == "cuModuleLoadData" else 0
    )
    with load_on(stub, toy_path) as bundle:
        (reason,) = bundle.fallbacks
        assert reason.code == "HETC-R063"
        assert "CUDA_ERROR_UNSUPPORTED_PTX_VERSION by the driver for CUDA 13.0" in reason.text
        assert stub.live == {}


def test_memory_that_is_too_small_at_loading(toy_path: Path) -> None:
    stub = StubBindings(TOY_KERNELS, memory_bytes=1000)
    with load_on(stub, toy_path) as bundle:
        (reason,) = bundle.fallbacks
        assert reason.code == "HETC-R052"
        assert stub.live == {}


def test_there_must_be_one_for_decode(tmp_path: Path) -> None:
    path = write_toy(tmp_path / "bundle", executors=("cuda", "unheard"))
    stub = StubBindings(TOY_KERNELS)
    with pytest.raises(RuntimeFault, match="HETC-R003") as error:
        load_on(stub, path)
    assert "HETC-R002 at unheard" in str(error.value)
    assert stub.live == {}


def test_an_executor_for_decode_is_passed_over_with_a_reason(tmp_path: Path) -> None:
    path = write_toy(tmp_path / "bundle", executors=("cuda", "unheard", "onnx"))
    with load_on(StubBindings(TOY_KERNELS), path) as bundle:
        assert bundle.executors == {"prefill": "cuda", "decode": "onnx"}
        assert [reason.at for reason in bundle.fallbacks] == ["unheard"]


def test_decode_halves_are_refused(toy_path: Path) -> None:
    with load_on(StubBindings(TOY_KERNELS), toy_path) as bundle:
        executor = CudaExecutor(driver=Driver(StubBindings(TOY_KERNELS)))
        with pytest.raises(RuntimeFault, match="HETC-R060"):
            executor.prepare(bundle.files, "decode")
        executor.close()


def test_a_closed_one_says_so(toy_path: Path) -> None:
    with load_on(StubBindings(TOY_KERNELS), toy_path) as bundle:
        executor = CudaExecutor(driver=Driver(StubBindings(TOY_KERNELS)))
        executor.prepare(bundle.files, "prefill")
        executor.close()
        executor.close()
        with pytest.raises(RuntimeFault, match="HETC-R004"):
            executor.run(np.ones((1, 2), np.int64), None)
