"""Sampling against definitions written out token by token."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetc.errors import RuntimeFault
from hetc.runtime.sampling import (
    SamplingOptions,
    choose,
    generator,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
    probabilities,
)

SCORES = st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=1, max_size=12)


def kept(scores: np.ndarray) -> set[int]:
    return {i for i, score in enumerate(scores) if score > -math.inf}


def shares(scores: list[float]) -> list[float]:
    exponentials = [math.exp(score - max(scores)) for score in scores]
    return [value / sum(exponentials) for value in exponentials]


@given(SCORES, st.integers(1, 14))
def test_top_k_keeps_what_fewer_than_k_exceed(scores: list[float], k: int) -> None:
    expected = {i for i, s in enumerate(scores) if sum(other > s for other in scores) < k}
    assert kept(keep_top_k(np.array(scores), k)) == expected


@given(SCORES, st.floats(0.01, 0.99))
def test_top_p_keeps_tokens_until_their_mass_reaches_p(scores: list[float], p: float) -> None:
    share = shares(scores)
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    found = kept(keep_top_p(np.array(scores), p))
    assert found == set(order[: len(found)])
    assert found
    mass = [sum(share[i] for i in order[:count]) for count in range(len(order) + 1)]
    # One more or one fewer only where p falls on a sum, up to rounding.
    assert mass[len(found) - 1] < p + 1e-9
    assert mass[len(found)] > p - 1e-9


@given(SCORES, st.floats(0.01, 1.0))
def test_min_p_is_relative_to_the_most_likely(scores: list[float], p: float) -> None:
    share = shares(scores)
    found = kept(keep_min_p(np.array(scores), p))
    for i, value in enumerate(share):
        if abs(value - p * max(share)) > 1e-12:
            assert (i in found) == (value >= p * max(share))


@given(SCORES, st.lists(st.integers(0, 11), max_size=6), st.floats(0.5, 3.0))
def test_repetition_penalty_lowers_seen_tokens_once(
    scores: list[float], history: list[int], penalty: float
) -> None:
    history = [token % len(scores) for token in history]
    expected = [
        (s / penalty if s > 0 else s * penalty) if i in history else s for i, s in enumerate(scores)
    ]
    found = penalize_repetition(np.array(scores), history, penalty)
    np.testing.assert_allclose(found, expected)


@given(SCORES, st.floats(0.05, 4.0), st.integers(0, 5), st.floats(0.1, 1.0), st.floats(0.0, 0.5))
def test_probabilities_are_a_distribution_over_what_is_kept(
    scores: list[float], temperature: float, k: int, p: float, floor: float
) -> None:
    options = SamplingOptions(temperature, k, p, floor)
    found = probabilities(np.array(scores), options)
    assert found.sum() == pytest.approx(1)
    assert found[int(np.argmax(scores))] > 0
    alive = np.flatnonzero(found)
    ratios = np.exp((np.array(scores) - max(scores)) / temperature)
    np.testing.assert_allclose(found[alive], ratios[alive] / ratios[alive].sum(), rtol=1e-9)


@given(SCORES, st.integers(0, 2**32))
def test_temperature_zero_is_greedy_whatever_the_seed(scores: list[float], seed: int) -> None:
    logits = np.array(scores, dtype=np.float32)
    rng = generator(seed, 0)
    assert choose(logits, [], SamplingOptions(), rng) == int(np.argmax(logits))


def test_draws_follow_the_distribution() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))
    options = SamplingOptions(temperature=1.0, top_p=0.9)
    rng = generator(1, 0)
    drawn = Counter(choose(logits, [], options, rng) for _ in range(4000))
    assert set(drawn) == {0, 1, 2}
    for token, share in enumerate([0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95]):
        assert drawn[token] / 4000 == pytest.approx(share, abs=0.03)


def test_a_seed_repeats_and_sequences_differ() -> None:
    logits = np.zeros(1000, dtype=np.float32)
    options = SamplingOptions(temperature=1.0)

    def draw(seed: int, sequence: int) -> list[int]:
        rng = generator(seed, sequence)
        return [choose(logits, [], options, rng) for _ in range(8)]

    assert draw(7, 0) == draw(7, 0)
    assert draw(7, 0) != draw(7, 1)
    assert draw(7, 0) != draw(8, 0)
    # Pinned: the stream of a seed is part of what users rely on between versions.
    assert draw(7, 0)[:3] == PINNED


PINNED = [468, 426, 362]


def test_a_draw_on_the_end_is_the_last_token_with_mass() -> None:
    class Last(np.random.Generator):
        def random(self, *_: object, **__: object) -> float:  # type: ignore[override]
            return 1.0

    logits = np.array([1.0, 1.0, -np.inf], dtype=np.float32)
    rng = Last(np.random.Philox(0))
    assert choose(logits, [], SamplingOptions(temperature=1.0), rng) == 1


@pytest.mark.parametrize("bad", [[math.nan, 1.0], [-math.inf, -math.inf], [math.inf, 0.0]])
def test_logits_that_are_not_finite_are_refused(bad: list[float]) -> None:
    with pytest.raises(RuntimeFault, match="HETC-R025"):
        choose(np.array(bad, dtype=np.float32), [], SamplingOptions(), generator(0, 0))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1.0),
        ("temperature", math.nan),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("min_p", -0.1),
        ("repetition_penalty", 0.0),
        ("seed", -1),
    ],
)
def test_options_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(RuntimeFault) as caught:
        SamplingOptions(**{name: value})  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.at) == ("HETC-R023", name)
