"""Prefill halves on a GPU: numbers, text, and memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hetc.bundle import open_bundle
from hetc.driver import load, tune
from hetc.errors import RuntimeFault
from hetc.runtime.cuda import CudaExecutor, CudaOptions
from hetc.runtime.cuda.driver import OutOfMemory
from hetc.runtime.cuda.prefill import Prefill
from hetc.runtime.cuda.timing import time_launches
from tests.gpu.tolerance import TOLERANCE, error, too_far

pytestmark = pytest.mark.gpu

Expected = dict[str, NDArray[Any]]


def expected_of(path: Path) -> Expected:
    with np.load(path.with_name(f"{path.name}.expected.npz")) as held:
        return dict(held)


def prompts(expected: Expected) -> Iterator[tuple[str, NDArray[np.int64]]]:
    for name, array in expected.items():
        if name.endswith(".tokens"):
            yield name.removesuffix(".tokens"), array


def by_pytorch(expected: Expected, number: str) -> dict[str, float]:
    """The errors of PyTorch's bf16, where they are known."""
    start = f"{number}.bf16."
    found = {name: array for name, array in expected.items() if name.startswith(start)}
    return {name.removeprefix(start): float(array) for name, array in found.items()}


def too_far_of(
    prefill: Prefill, expected: Expected, number: str, tokens: NDArray[np.int64]
) -> dict[str, float]:
    logits, states = prefill.run(tokens)
    errors = {"logits": error(logits, expected[f"{number}.logits"])}
    errors |= state_errors(
        {name: state.numpy() for name, state in states.items()}, expected, number
    )
    return too_far(errors, tokens, by_pytorch(expected, number))


def state_errors(
    states: Mapping[str, NDArray[Any]], expected: Expected, number: str
) -> dict[str, float]:
    """How far the states that are expected are from f32."""
    start = f"{number}.state."
    return {
        name.removeprefix(f"{number}."): error(states[name.removeprefix(start)], array)
        for name, array in expected.items()
        if name.startswith(start)
    }


@pytest.mark.parametrize("graphs", [0, 16])
def test_numbers_are_those_of_f32(bundle_path: Path, graphs: int) -> None:
    """Every shape three times: plain, captured, and as a graph; then all in another order."""
    expected = expected_of(bundle_path)
    with open_bundle(bundle_path) as bundle:
        prefill = Prefill(bundle, CudaOptions(graphs=graphs, tuned=False))
        try:
            order = [each for each in prompts(expected) for _ in range(3)]
            order += reversed(list(prompts(expected)))
            found = [(number, too_far_of(prefill, expected, number, t)) for number, t in order]
        finally:
            prefill.close()
    assert not [each for each in found if each[1]]


def test_every_run_gives_the_same_bits(bundle_path: Path) -> None:
    expected = expected_of(bundle_path)
    with open_bundle(bundle_path) as bundle:
        prefill = Prefill(bundle)
        try:
            for _, tokens in prompts(expected):
                first, states = prefill.run(tokens)
                held = {name: state.numpy().copy() for name, state in states.items()}
                for _ in range(3):
                    again, states = prefill.run(tokens)
                    np.testing.assert_array_equal(again, first)
                    for name, state in states.items():
                        np.testing.assert_array_equal(
                            state.numpy().view(np.uint8), held[name].view(np.uint8)
                        )
        finally:
            prefill.close()


def test_text_is_that_of_the_cpu(smollm2: Path) -> None:
    expected = expected_of(smollm2)
    with load(smollm2, executor="cuda") as bundle:
        assert bundle.executors["prefill"] == "cuda"
        assert bundle.executors["decode"] != "cuda"
        compared = 0
        for number in (name.removesuffix(".text") for name in expected if name.endswith(".text")):
            text = expected[f"{number}.text"].tobytes().decode()
            new = expected[f"{number}.new"]
            # Where two tokens are as good as each other, rounding may choose.
            close = np.flatnonzero(expected[f"{number}.lead"] < TOLERANCE)
            decided = int(close[0]) if close.size else len(new)
            answer = bundle.generate(text, max_new_tokens=len(new), ignore_eos=True)
            assert list(answer.token_ids)[:decided] == new[:decided].tolist(), text
            compared += decided
        assert compared > 32


def test_cuda_is_the_first_choice(smollm2: Path) -> None:
    with load(smollm2) as bundle:
        assert bundle.executors["prefill"] == "cuda", bundle.fallbacks


def test_states_outlive_the_executor(bundle_path: Path) -> None:
    expected = expected_of(bundle_path)
    number, tokens = list(prompts(expected))[-1]
    with open_bundle(bundle_path) as bundle:
        prefill = Prefill(bundle)
        _, states = prefill.run(tokens)
        prefill.run(tokens[:, ::-1].copy())
        prefill.close()
    held = {name: state.numpy() for name, state in states.items()}
    del states
    gc.collect()
    errors = state_errors(held, expected, number)
    assert not too_far(errors, tokens, by_pytorch(expected, number))


def test_memory_is_given_back(bundle_path: Path) -> None:
    with open_bundle(bundle_path) as bundle:
        # The first time, the driver keeps some memory of its own.
        left = []
        for _ in range(3):
            prefill = Prefill(bundle)
            logits, states = prefill.run(np.full((2, 33), 5))
            assert np.isfinite(logits).all()
            del states
            device = prefill.device
            device.join()
            prefill.close()
            with device.current():
                left.append(device.driver.free_memory())
            device.leave()
        assert left[2] >= left[1]


def test_prompts_that_the_memory_does_not_hold(smollm2: Path) -> None:
    """The error is one that names the remedy, and the next prompt runs."""
    with open_bundle(smollm2) as bundle:
        prefill = Prefill(bundle)
        taken: list[int] = []
        driver = prefill.device.driver
        with prefill.device.current():
            size = driver.free_memory() - 64 * 2**20
            while size > 2**20:
                try:
                    taken.append(driver.allocate(size))
                except OutOfMemory:
                    size //= 2
                size = min(size, driver.free_memory() - 64 * 2**20)
        with pytest.raises(RuntimeFault, match="HETC-R052"):
            prefill.run(np.full((64, 2048), 5))
        with prefill.device.current():
            for address in taken:
                driver.free(address)
        logits, _ = prefill.run(np.full((1, 4), 5))
        assert np.isfinite(logits).all()
        prefill.close()


def test_tuning_changes_no_number_much(bundle_path: Path) -> None:
    tuned = tune(bundle_path, lambda step: None)
    assert tuned.kernels
    assert all(0 < each.fastest_ms <= each.chosen_ms for each in tuned.kernels)
    expected = expected_of(bundle_path)
    with open_bundle(bundle_path) as bundle:
        prefill = Prefill(bundle)
        try:
            found = [(n, too_far_of(prefill, expected, n, t)) for n, t in prompts(expected)]
        finally:
            prefill.close()
    assert not [each for each in found if each[1]]


def test_launches_can_be_timed(smollm2: Path) -> None:
    with open_bundle(smollm2) as bundle:
        prefill = Prefill(bundle)
        try:
            times = time_launches(prefill, np.full((1, 512), 5))
        finally:
            prefill.close()
    assert len(times) == len(prefill.plan.launches)
    assert all(time.milliseconds > 0 for time in times)


def test_an_interrupt_leaves_it_usable(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_bundle(smollm2) as bundle:
        executor = CudaExecutor()
        executor.prepare(bundle, "prefill")
        tokens = np.full((1, 64), 7)
        expected, _ = executor.run(tokens, None)
        launches = 0

        def interrupted(*arguments: Any) -> None:
            nonlocal launches
            launches += 1
            if launches == 40:
                raise KeyboardInterrupt
            launch(*arguments)

        assert executor._prefill is not None
        driver = executor._prefill.device.driver
        launch = driver.launch
        monkeypatch.setattr(driver, "launch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            executor.run(tokens[:, :50], None)
        monkeypatch.undo()
        again, _ = executor.run(tokens, None)
        np.testing.assert_array_equal(again, expected)
        executor.close()
