"""Matrices of a plan in the type of their checkpoint."""

from __future__ import annotations

from hetc.ir.text import parse, print_graph
from hetc.ir.types import F8E4M3
from hetc.passes.narrow_weights import narrow_weights

BEFORE = """
graph @model(%x: bf16[B,S,8], %ids: i64[R], %rows: bf16[R,8]) -> (bf16[B,S,16], bf16[R,8]) {
  %0 = weight {name = "up", type = bf16[8,8]}
  %1 = linear %x, %0
  %2 = weight {name = "experts", type = bf16[4,8,8]}
  %3 = expert_linear %rows, %2, %ids
  %4 = weight {name = "norm", type = bf16[8]}
  %5 = rms_norm %1 {weight = %4}
  %6 = weight {name = "lm_head", type = bf16[16,8]}
  %7 = linear %5, %6
  return %7, %3
}
"""
AFTER = """
graph @model(%x: bf16[B,S,8], %ids: i64[R], %rows: bf16[R,8]) -> (bf16[B,S,16], bf16[R,8]) {
  %0 = weight {name = "up", type = f8e4m3[8,8]}
  %1 = cast %0 {dtype = bf16}
  %2 = linear %x, %1
  %3 = weight {name = "experts", type = f8e4m3[4,8,8]}
  %4 = cast %3 {dtype = bf16}
  %5 = expert_linear %rows, %4, %ids
  %6 = weight {name = "norm", type = bf16[8]}
  %7 = rms_norm %2 {weight = %6}
  %8 = weight {name = "lm_head", type = bf16[16,8]}
  %9 = linear %7, %8
  return %9, %5
}
"""


def test_products_read_narrow_matrices_and_the_last_one_stays() -> None:
    before = parse(BEFORE)
    assert _lines(print_graph(narrow_weights(before, F8E4M3))) == _lines(AFTER)


def test_what_is_as_narrow_already_stays() -> None:
    once = narrow_weights(parse(AFTER), F8E4M3)
    assert _lines(print_graph(once)) == _lines(AFTER)


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.strip().splitlines()]
