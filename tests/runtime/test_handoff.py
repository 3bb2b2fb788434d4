"""The hand-off refuses every way of passing a state that is not whole, one clear error each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hetc.bundle import Contract
from hetc.errors import RuntimeFault
from hetc.runtime import State, check_state, hand_off
from hetc.runtime.handoff import size_of
from tests.golden import Golden
from tests.runtime.toy import HIDDEN, STATE, contract

SHA = "c" * 64


def whole(past: int = 5, batch: int = 2) -> State:
    return State(SHA, past, {STATE: np.ones((batch, past, HIDDEN), np.float32)})


def tensor(*shape: int, dtype: type = np.float32) -> State:
    return State(SHA, 5, {STATE: np.ones(shape, dtype)})


def test_a_whole_state_passes_once() -> None:
    state = whole()
    passed, record = hand_off(state, contract(), SHA)
    assert (passed.owner, passed.past, state.spent) == ("decode", 5, True)
    assert (record.bytes, record.dtype) == (2 * 5 * HIDDEN * 4, "f32")
    assert record.seconds > 0
    np.testing.assert_array_equal(passed.numpy(STATE), np.ones((2, 5, HIDDEN)))
    with pytest.raises(RuntimeFault, match="HETC-R010"):
        hand_off(state, contract(), SHA)


def used() -> State:
    state = whole()
    hand_off(state, contract(), SHA)
    return state


MISUSES: dict[str, Callable[[], State]] = {
    "used-twice": used,
    "other-contract": lambda: State("d" * 64, 5, dict(whole().tensors)),
    "missing-tensor": lambda: State(SHA, 5, {}),
    "unknown-tensor": lambda: State(SHA, 5, dict(whole().tensors) | {"extra": np.zeros(1)}),
    "dtype": lambda: tensor(2, 5, HIDDEN, dtype=np.float16),
    "width": lambda: tensor(2, 5, HIDDEN + 1),
    "rank": lambda: tensor(5, HIDDEN),
    "past-too-short": lambda: tensor(2, 4, HIDDEN),
    "past-zero": lambda: State(SHA, 0, {STATE: np.ones((2, 0, HIDDEN), np.float32)}),
    "past-beyond": lambda: whole(past=65),
    "owner": lambda: hand_off(whole(), contract(), SHA)[0],
}


@pytest.mark.parametrize("name", MISUSES)
def test_misuse_is_one_clear_error(name: str, golden: Golden) -> None:
    state = MISUSES[name]()
    with pytest.raises(RuntimeFault) as caught:
        hand_off(state, contract(), SHA)
    golden(f"handoff-{name}.txt", str(caught.value))


@pytest.mark.parametrize("name", [n for n in MISUSES if n != "used-twice"])
def test_a_refused_state_is_not_spent(name: str) -> None:
    state = MISUSES[name]()
    with pytest.raises(RuntimeFault):
        hand_off(state, contract(), SHA)
    assert not state.spent


def test_an_unknown_conversion_is_refused() -> None:
    (spec,) = contract().states
    other = Contract(1, 64, (replace(spec, conversion="transpose(1,2)"),))
    with pytest.raises(RuntimeFault, match="HETC-R019"):
        hand_off(whole(), other, SHA)


def test_digests_find_a_changed_byte() -> None:
    state = whole()
    digests = state.digests()
    state.numpy(STATE)[0, 0, 0] = 2
    with pytest.raises(RuntimeFault, match="HETC-R016"):
        hand_off(state, contract(), SHA, digests=digests)
    state.numpy(STATE)[0, 0, 0] = 1
    hand_off(state, contract(), SHA, digests=digests)


def test_a_missing_digest_is_refused() -> None:
    with pytest.raises(RuntimeFault, match="HETC-R016"):
        hand_off(whole(), contract(), SHA, digests={})


def test_batches_of_two_tensors_must_agree() -> None:
    (spec,) = contract().states
    two = Contract(1, 64, (spec, replace(spec, name="b")))
    tensors = {STATE: np.ones((2, 5, HIDDEN), "f4"), "b": np.ones((3, 5, HIDDEN), "f4")}
    with pytest.raises(RuntimeFault) as caught:
        check_state(State(SHA, 5, tensors), two, SHA, owner="prefill")
    assert (caught.value.code, caught.value.at) == ("HETC-R014", "b")


def test_a_copy_survives_its_original() -> None:
    state = whole()
    fork = state.copy()
    state.take()
    assert fork.numpy(STATE).shape == (2, 5, HIDDEN)
    with pytest.raises(RuntimeFault, match="HETC-R010"):
        state.copy()


@pytest.mark.parametrize(
    ("dim", "expected"),
    [(7, 7), ("P", 5), ("B*P", 10), ("2*B + P - 1", 8), ("W3", 3), ("W9", 5), ("-1+P", 4)],
)
def test_sizes_of_the_contract(dim: int | str, expected: int) -> None:
    assert size_of(dim, {"P": 5, "B": 2}, at="x") == expected


def test_a_size_without_a_value_is_refused() -> None:
    with pytest.raises(RuntimeFault, match="HETC-R014"):
        size_of("Q", {"P": 5}, at="x")
