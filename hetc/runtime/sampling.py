"""Choosing the next token: pure functions of logits, and a seeded generator.

The order is that of the `transformers` library: repetition penalty, temperature, top-k, top-p,
min-p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hetc.errors import RuntimeFault

Logits = NDArray[np.float64]
EXCLUDED = -np.inf


@dataclass(frozen=True)
class SamplingOptions:
    """How a token is chosen; the defaults are greedy.

    `temperature` 0 is greedy. `top_k` 0, `top_p` 1, `min_p` 0 and `repetition_penalty` 1 are off.
    The same `seed` gives the same tokens; None draws one. Raises RuntimeFault HETC-R023 for a value
    outside of its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        _require(0 <= self.temperature < np.inf, "temperature", "0 or more", self.temperature)
        _require(self.top_k >= 0, "top_k", "0 (off) or more", self.top_k)
        _require(0 < self.top_p <= 1, "top_p", "above 0, at most 1", self.top_p)
        _require(0 <= self.min_p <= 1, "min_p", "0 to 1", self.min_p)
        penalty = self.repetition_penalty
        _require(0 < penalty < np.inf, "repetition_penalty", "above 0", penalty)
        _require(self.seed is None or self.seed >= 0, "seed", "0 or more", self.seed)


def generator(seed: int | None, sequence: int) -> np.random.Generator:
    """A generator for one sequence of a batch: its draws do not depend on its neighbours."""
    entropy = None if seed is None else [seed, sequence]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


def choose(
    logits: NDArray[np.float32],
    history: Sequence[int],
    options: SamplingOptions,
    rng: np.random.Generator,
) -> int:
    """The next token after `history` (prompt and answer so far), from `logits` [V].

    Raises RuntimeFault HETC-R025 where the logits hold NaN or no finite value.
    """
    _check_logits(logits)
    scores = logits.astype(np.float64)
    scores = penalize_repetition(scores, history, options.repetition_penalty)
    if options.temperature == 0:
        return int(np.argmax(scores))
    cumulative = np.cumsum(probabilities(scores, options))
    drawn = np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
    # Rounding may put the draw on the very end: then it is the last token that has any mass.
    return int(min(drawn, np.searchsorted(cumulative, cumulative[-1])))


def probabilities(scores: Logits, options: SamplingOptions) -> Logits:
    """The distribution that is drawn from: [V], sums to 1, zero where a filter excludes."""
    # Shifted before the division: a tiny temperature would overflow otherwise.
    scores = (scores - scores.max()) / options.temperature
    scores = keep_top_k(scores, options.top_k)
    scores = keep_top_p(scores, options.top_p)
    scores = keep_min_p(scores, options.min_p)
    return softmax(scores)


def softmax(scores: Logits) -> Logits:
    """Exponentials over their sum, along the last axis."""
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def penalize_repetition(scores: Logits, history: Sequence[int], penalty: float) -> Logits:
    """Lower the scores of tokens seen before: positive by division (Keskar et al. 2019, 4.1)."""
    if penalty == 1 or not len(history):
        return scores
    seen = np.unique(np.asarray(history, dtype=np.int64))
    penalized = scores.copy()
    penalized[seen] = np.where(scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty)
    return penalized


def keep_top_k(scores: Logits, k: int) -> Logits:
    """Exclude what is below the k-th largest score; ties with it stay."""
    if k == 0 or k >= scores.size:
        return scores
    smallest_kept = np.partition(scores, -k)[-k]
    return np.where(scores < smallest_kept, EXCLUDED, scores)


def keep_top_p(scores: Logits, p: float) -> Logits:
    """Keep the fewest most likely tokens whose probabilities reach p (Holtzman et al. 2020)."""
    if p == 1:
        return scores
    order = np.argsort(-scores, kind="stable")
    mass = np.cumsum(softmax(scores)[order])
    # A token stays while the mass before it is below p; the first always does.
    excluded = order[1:][mass[:-1] >= p]
    kept = scores.copy()
    kept[excluded] = EXCLUDED
    return kept


def keep_min_p(scores: Logits, p: float) -> Logits:
    """Exclude what is less likely than p times the most likely token (Nguyen et al. 2024)."""
    if p == 0:
        return scores
    likely = softmax(scores)
    return np.where(likely < p * likely.max(), EXCLUDED, scores)


def _check_logits(logits: NDArray[np.float32]) -> None:
    if np.isnan(logits).any() or not np.isfinite(logits.max()):
        raise RuntimeFault(
            "HETC-R025",
            "the model's logits are not finite",
            expected="finite logits",
            found=f"{int(np.isnan(logits).sum())} NaN of {logits.size}",
            do="run hetc verify on the bundle; with fp16 weights, compile with --dtype fp32",
        )


def _require(good: bool, name: str, expected: str, found: object) -> None:
    if not good:
        raise RuntimeFault(
            "HETC-R023",
            "a sampling option is out of range",
            at=name,
            expected=expected,
            found=found,
        )
