"""Sequences of different lengths, decoded together, give what each gives alone."""

from __future__ import annotations

import numpy as np
import pytest

from hetc.ir.types import Array
from hetc.runtime import Bundle
from tests.driver.conftest import Subjects
from tests.driver.models import FAMILIES, WINDOW, tokens

# Prompts from one token to past a window, and over the edge of a tile of 16 keys.
LENGTHS = (3, WINDOW, 1, 17, 12)
# Tokens at a time behind them.
STEPS = (1, 3, 1, 2)


def alone(bundle: Bundle, ids: Array, prompt: int) -> list[Array]:
    """Logits of each call for one sequence."""
    _, state = bundle.prefill(ids[:, :prompt])
    found = []
    for count in STEPS:
        logits, state = bundle.decode(ids[:, prompt : prompt + count], state)
        prompt += count
        found.append(logits)
    return found


def together(bundle: Bundle, rows: Array, prompts: tuple[int, ...]) -> list[Array]:
    """The same for all of `rows` [B, S]."""
    states = [
        bundle.prefill(row[None, :prompt])[1] for row, prompt in zip(rows, prompts, strict=True)
    ]
    joined, done, found = bundle.join(states), 0, []
    for count in STEPS:
        parts = [
            row[prompt + done : prompt + done + count]
            for row, prompt in zip(rows, prompts, strict=True)
        ]
        found.append(bundle.decode_joined(np.stack(parts), joined))
        done += count
    assert joined.pasts == tuple(prompt + done for prompt in prompts)
    return found


def difference(bundle: Bundle) -> float:
    rows = tokens(len(LENGTHS), 30).numpy()
    both = together(bundle, rows, LENGTHS)
    worst = 0.0
    for number, prompt in enumerate(LENGTHS):
        for found, expected in zip(
            both, alone(bundle, rows[number : number + 1], prompt), strict=True
        ):
            worst = max(worst, float(np.max(np.abs(found[number] - expected[0]))))
    return worst


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(subjects: Subjects, family: str) -> None:
    error = difference(subjects(family).bundle)
    print(family, error)
    assert error == 0
