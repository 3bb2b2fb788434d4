"""Random numbers: the distribution that they are drawn from, and that a seed decides them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hetc.ir.interpret import interpret
from hetc.ir.text import parse
from hetc.ir.types import DTYPES, Array

MANY = 20_000


def draw(attributes: str) -> Array:
    graph = parse(
        f"graph @f() {{ %0 = random {{shape = [4, {MANY // 4}], {attributes}}} return %0 }}"
    )
    (numbers,) = interpret(graph, [])
    assert numbers.shape == (4, MANY // 4)
    return numbers


@pytest.mark.parametrize(("attributes", "name"), [("seed = 3", "uniform"), ("normal", "norm")])
def test_distribution(attributes: str, name: str) -> None:
    # One in a thousand draws would fail; these are always the same ones.
    assert stats.kstest(draw(attributes).ravel(), name).pvalue > 1e-3


def test_a_seed_decides() -> None:
    first = draw("seed = 1")
    assert np.array_equal(first, draw("seed = 1"))
    assert not np.isin(draw("seed = 2"), first).mean() > 0.01


@pytest.mark.parametrize("dtype", ["f64", "f32", "f16", "bf16"])
def test_uniform_numbers_are_below_one(dtype: str) -> None:
    numbers = draw(f"dtype = {dtype}")
    assert numbers.dtype == DTYPES[dtype].numpy
    wide = numbers.astype(np.float64)
    assert wide.min() >= 0
    assert 0.99 < wide.max() < 1
