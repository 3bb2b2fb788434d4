"""Sizes that data decides, in an ONNX file."""

from __future__ import annotations

import numpy as np
import pytest

from hetc.ir.interpret import interpret
from hetc.ir.text import parse
from tests.backends.runs import OnnxRun, assert_same

pytest.importorskip("onnx")

PICKED = """graph @picked(%x: f32[B,S], %m: bool[B,S]) -> (picked: f32[U0], ones: f32[2,U0]) {
  %0 = nonzero %m {count = "U0"}
  %1, %2 = split %0 {axis = 1, sizes = [1, 1]}
  %3 = reshape %1 {shape = [U0]}
  %4 = reshape %2 {shape = [U0]}
  %5 = index %x, [%3, %4] {axes = [0, 1]}
  %6 = full {value = 1.0, shape = [2, U0]}
  return %5, %6
}"""


@pytest.mark.parametrize("rows", [1, 4])
def test_a_size_is_read_off_the_places(rows: int) -> None:
    graph = parse(PICKED)
    rng = np.random.default_rng(rows)
    inputs = [rng.standard_normal((rows, 5)).astype(np.float32), rng.random((rows, 5)) < 0.5]
    expected = interpret(graph, inputs)
    assert_same(OnnxRun(graph)(inputs), expected, tolerance=0)
