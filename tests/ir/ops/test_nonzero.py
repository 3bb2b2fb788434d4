"""Sizes that data decides: `nonzero` counts, and what follows it uses the count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hetc.errors import IRError
from hetc.ir.interpret import interpret
from hetc.ir.text import parse
from hetc.ir.verify import problems

PICK = """graph @pick(%x: f32[B,S], %m: bool[B,S]) {
  %0 = nonzero %m {count = "U0"}
  %1, %2 = split %0 {axis = 1, sizes = [1, 1]}
  %3 = reshape %1 {shape = [U0]}
  %4 = reshape %2 {shape = [U0]}
  %5 = index %x, [%3, %4] {axes = [0, 1]}
  %6 = full {value = 1.0, shape = [2, U0]}
  return %5, %6, %0
}"""


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 5))
def test_elements_where_a_mask_holds(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, columns)).astype(np.float32)
    mask = rng.random((rows, columns)) < rng.random()
    graph = parse(PICK)
    assert problems(graph) == []
    picked, ones, places = interpret(graph, [x, mask])
    expected = torch.from_numpy(x)[torch.from_numpy(mask)].numpy()
    assert np.array_equal(picked, expected)
    assert ones.shape == (2, len(expected))
    assert np.array_equal(places, torch.nonzero(torch.from_numpy(mask)).numpy())


def test_a_number_without_axes_has_one_place() -> None:
    graph = parse('graph @f(%x: f32[]) { %0 = nonzero %x {count = "U0"} return %0 }')
    for number in (0.0, -0.0, 2.0, np.nan):
        (places,) = interpret(graph, [np.array(number, np.float32)])
        assert places.shape == tuple(torch.nonzero(torch.tensor(number)).shape)


def test_one_size_counts_one_thing() -> None:
    graph = parse(
        """graph @f(%x: bool[S], %y: bool[S]) {
          %0 = nonzero %x {count = "U0"}
          %1 = nonzero %y {count = "U0"}
          return %0, %1
        }"""
    )
    ones, none = np.ones(3, bool), np.zeros(3, bool)
    interpret(graph, [ones, ones])
    with pytest.raises(IRError, match="HETC-X025"):
        interpret(graph, [ones, none])


def test_a_size_that_nothing_counts_is_a_problem() -> None:
    graph = parse("graph @f(%x: bool[S]) { %0 = full {value = 1.0, shape = [U0]} return %0 }")
    assert [problem.code for problem in problems(graph)] == ["HETC-X112"]
