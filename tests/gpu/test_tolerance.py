"""What is too far from f32, which needs no GPU."""

from __future__ import annotations

import numpy as np
import pytest

from tests.gpu.tolerance import error, too_far

ONE, TWO = np.zeros((1, 7), np.int64), np.zeros((2, 7), np.int64)


def test_a_shallow_model_is_held_to_the_tolerance() -> None:
    assert not too_far({"logits": 9e-3, "state.key": 9e-3}, TWO)
    assert too_far({"logits": 2e-2, "state.key": 1e-3}, TWO).keys() == {"logits", "together"}


@pytest.mark.parametrize(
    ("tokens", "name", "times"),
    [
        (TWO, "logits", 1.5),
        (TWO, "state.key", 1.5),
        # What comes of one token.
        (ONE, "logits", 3.0),
        (ONE, "state.key", 1.5),
        (ONE[:, :1], "state.key", 3.0),
    ],
)
def test_a_deep_one_by_what_pytorch_reaches(tokens: np.ndarray, name: str, times: float) -> None:
    others = {f"state.{number}": 0.02 for number in range(50)}
    theirs = {name: 0.02, **others}
    assert not too_far({name: 0.02 * (times - 0.1), **others}, tokens, theirs)
    assert too_far({name: 0.02 * (times + 0.1), **others}, tokens, theirs).keys() == {name}


def test_results_together_are_held_to_less() -> None:
    theirs = dict.fromkeys(("logits", "state.key", "state.value"), 0.02)
    found = {name: each * 1.4 for name, each in theirs.items()}
    assert too_far(found, TWO, theirs).keys() == {"together"}


def test_an_error_is_a_part_of_the_norm() -> None:
    exact = np.array([3.0, 4.0], np.float32)
    assert error(exact + np.array([0.0, 0.5], np.float32), exact) == pytest.approx(0.1)
