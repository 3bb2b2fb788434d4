"""A loaded bundle: its two verbs, and how it was loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hetc.bundle import OpenBundle
from hetc.errors import BundleError, MissingDependency, RuntimeFault
from hetc.runtime import Bundle, State, load
from hetc.runtime.executor import Half
from tests.golden import Golden
from tests.runtime.toy import NumpyExecutor, forward, weights, write_toy_bundle

TOKENS = np.array([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])


class Missing(NumpyExecutor):
    """An executor whose package is not installed."""

    def prepare(self, bundle: OpenBundle, half: Half) -> None:
        raise MissingDependency("toybox", "toy", needed_for="the executor toybox")


class Wrong(NumpyExecutor):
    """An executor that forgets a position."""

    def run(self, tokens: Any, state: State | None) -> tuple[Any, State]:
        logits, after = super().run(tokens, state)
        return logits, State(after.contract_sha256, after.past - 1, after.take(), owner="prefill")


@pytest.mark.parametrize("split", [1, 3, 5])
@pytest.mark.parametrize("at_once", [1, 2])
def test_prefill_then_decode_is_forward(bundle: Bundle, split: int, at_once: int) -> None:
    expected = forward(weights(), TOKENS)
    logits, state = bundle.prefill(TOKENS[:, :split])
    np.testing.assert_allclose(logits, expected[:, split - 1 : split], atol=1e-5)
    for start in range(split, 6, at_once):
        stop = min(start + at_once, 6)
        logits, state = bundle.decode(TOKENS[:, start:stop], state)
        np.testing.assert_allclose(logits, expected[:, start:stop], atol=1e-5)
    assert (state.past, state.owner) == (6, "decode")


def test_a_state_is_used_once_and_forks_by_copy(bundle: Bundle) -> None:
    _, state = bundle.prefill([1, 2, 3])
    fork = state.copy()
    first, _ = bundle.decode([4], state)
    with pytest.raises(RuntimeFault, match="HETC-R010"):
        bundle.decode([4], state)
    second, _ = bundle.decode([4], fork)
    np.testing.assert_array_equal(first, second)


def test_a_state_of_another_batch_or_bundle_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    _, state = bundle.prefill(TOKENS)
    with pytest.raises(RuntimeFault, match="HETC-R014"):
        bundle.decode([4], state)
    foreign = State("0" * 64, 3, {})
    with pytest.raises(RuntimeFault, match="HETC-R011"):
        bundle.decode([4], foreign)


@pytest.mark.parametrize("bad", [[1.5], [], [[[1]]], [[1, 2], [3]], [10**6]])
def test_what_are_no_tokens_is_refused(bundle: Bundle, bad: Any) -> None:
    with pytest.raises(RuntimeFault, match=r"HETC-R02[01]"):
        bundle.prefill(bad)


def test_decode_beyond_the_context_is_refused(bundle: Bundle) -> None:
    _, state = bundle.prefill([1] * 64)
    with pytest.raises(RuntimeFault, match="HETC-R022"):
        bundle.decode([1], state)
    with pytest.raises(RuntimeFault, match="HETC-R022"):
        bundle.prefill([1] * 65)


def test_an_executor_that_miscounts_is_caught(path: Path) -> None:
    with (
        load(path, executors={"toy": Wrong}) as bundle,
        pytest.raises(RuntimeFault, match="HETC-R026"),
    ):
        bundle.prefill([1, 2])


def test_closing_ends_everything(path: Path, golden: Golden) -> None:
    executors: list[NumpyExecutor] = []

    def factory() -> NumpyExecutor:
        executors.append(NumpyExecutor())
        return executors[-1]

    bundle = load(path, executors={"toy": factory})
    bundle.close()
    bundle.close()
    assert [e.calls.count("close") for e in executors] == [1, 1]
    with pytest.raises(RuntimeFault) as caught:
        bundle.generate("a")
    assert caught.value.code == "HETC-R004"
    assert bundle.manifest.model.name == "toy"


def test_a_plan_is_inspected_and_says_why_it_does_not_run(tmp_path: Path) -> None:
    with load(write_toy_bundle(tmp_path / "plan", plan=True)) as bundle:
        assert bundle.manifest.kind == "plan"
        assert bundle.executors == {}
        assert bundle.contract.state_names == ("layers.0.h",)
        for run in (lambda: bundle.generate("a"), lambda: bundle.prefill([1])):
            with pytest.raises(RuntimeFault, match="HETC-R001"):
                run()


def test_the_first_executor_that_works_is_taken_and_the_others_explained(tmp_path: Path) -> None:
    path = write_toy_bundle(tmp_path / "b", executors=("absent", "toybox", "toy"))
    with load(path, executors={"toybox": Missing, "toy": NumpyExecutor}) as bundle:
        assert bundle.executors == {"prefill": "toy", "decode": "toy"}
        assert [str(reason) for reason in bundle.fallbacks] == [
            "HETC-R002 at absent: this installation does not have it",
            "HETC-U001 at toybox: the executor toybox needs the package toybox:"
            " it is not installed",
        ]


def test_an_executor_asked_for_by_name_is_taken_or_its_error_shown(tmp_path: Path) -> None:
    path = write_toy_bundle(tmp_path / "b", executors=("toy", "toybox"))
    offered = {"toybox": Missing, "toy": NumpyExecutor, "other": NumpyExecutor}
    with pytest.raises(MissingDependency):
        load(path, executors=offered, executor="toybox")
    with load(path, executors=offered, executor="toy") as bundle:
        assert bundle.fallbacks == ()
    for name in ("other", "nonsense"):
        with pytest.raises(RuntimeFault, match="HETC-R002"):
            load(path, executors=offered, executor=name)


def test_no_executor_at_all_is_one_error_with_every_reason(tmp_path: Path, golden: Golden) -> None:
    path = write_toy_bundle(tmp_path / "b", executors=("absent", "toybox"))
    with pytest.raises(RuntimeFault) as caught:
        load(path, executors={"toybox": Missing})
    golden("load-no-executor.txt", str(caught.value).replace(str(tmp_path), "TMP"))


def test_a_half_prepared_bundle_is_closed_again(path: Path) -> None:
    executors: list[NumpyExecutor] = []

    def factory() -> NumpyExecutor:
        executors.append(Missing() if executors else NumpyExecutor())
        return executors[-1]

    with pytest.raises(MissingDependency):
        load(path, executors={"toy": factory}, executor="toy")
    assert executors[0].calls == ["prepare prefill", "close"]


def test_a_damaged_bundle_is_refused(path: Path) -> None:
    (path / "decode" / "graph.hetc").write_bytes(b"graph @DECODE")
    with pytest.raises(BundleError):
        load(path, executors={"toy": NumpyExecutor}, check="full")
