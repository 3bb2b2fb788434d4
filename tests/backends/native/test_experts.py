"""Mixtures of experts: who is chosen, what they compute, and how it is put together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hetc.backends.native import NativePlan
from hetc.ir.text import parse
from tests.backends.native.running import case, executors, largest_error

EXPERTS, CHOSEN = 5, 3


def model(width: int, inner: int, *, transposed: bool, bias: bool) -> str:
    """A router, and experts of two layers each."""
    up = f"{EXPERTS},{width},{inner}" if transposed else f"{EXPERTS},{inner},{width}"
    down = f"{EXPERTS},{inner},{width}" if transposed else f"{EXPERTS},{width},{inner}"
    flags = [flag for flag, is_set in (("bias = %8", bias), ("transposed", transposed)) if is_set]
    first = f" {{{', '.join(flags)}}}" if flags else ""
    second = " {transposed}" if transposed else ""
    rows = f"{CHOSEN}*B*T"
    return f"""
graph @decode(%tokens: i64[B,T], %past: i64[]) -> (logits: f32[B,T,{width}]) {{
  %0 = weight {{name = "table", type = f32[50,{width}]}}
  %1 = embedding %0, %tokens
  %2 = reshape %1 {{shape = [B*T, {width}]}}
  %3 = weight {{name = "router", type = f32[{EXPERTS},{width}]}}
  %4 = linear %2, %3
  %5 = softmax %4 {{axis = -1}}
  %6, %7 = topk %5 {{k = {CHOSEN}}}
  %8 = weight {{name = "bias", type = f32[{EXPERTS},{inner}]}}
  %9 = sum %6 {{axes = [-1], keepdim}}
  %10 = div %6, %9
  %11 = reshape %10 {{shape = [{rows}, 1]}}
  %12 = reshape %7 {{shape = [{rows}]}}
  %13 = reshape %2 {{shape = [B*T, 1, {width}]}}
  %14 = broadcast %13 {{shape = [B*T, {CHOSEN}, {width}]}}
  %15 = reshape %14 {{shape = [{rows}, {width}]}}
  %16 = weight {{name = "up", type = f32[{up}]}}
  %17 = expert_linear %15, %16, %12{first}
  %18 = silu %17
  %19 = weight {{name = "down", type = f32[{down}]}}
  %20 = expert_linear %18, %19, %12{second}
  %21 = mul %20, %11
  %22 = reshape %21 {{shape = [B*T, {CHOSEN}, {width}]}}
  %23 = sum %22 {{axes = [1]}}
  %24 = reshape %23 {{shape = [B, T, {width}]}}
  return %24
}}"""


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("width", "inner", "bias"), [(7, 19, True), (32, 16, False)])
def test_experts(width: int, inner: int, bias: bool, transposed: bool, tmp_path: Path) -> None:
    made = case(model(width, inner, transposed=transposed, bias=bias))
    rng = np.random.default_rng(1)
    for threads in (1, 2, 3):
        with executors(made, tmp_path, threads) as ran:
            for batch, steps in ((1, [4, 1, 1]), (3, [7, 1, 5])):
                tokens = rng.integers(0, 50, (batch, sum(steps)))
                assert largest_error(made, ran, tokens, steps) < 1e-5


def test_of_equal_scores_the_first_are_chosen(tmp_path: Path) -> None:
    made = case(model(8, 8, transposed=False, bias=False))
    made.weights["router"][:] = 0
    with executors(made, tmp_path, 2) as ran:
        assert largest_error(made, ran, np.arange(6).reshape(1, 6), [4, 2]) < 1e-5


def test_axes_of_unknown_size_are_refused_with_a_reason() -> None:
    text = model(8, 8, transposed=False, bias=False).replace(
        "softmax %4 {axis = -1}", "softmax %4 {axis = 0}"
    )
    (reason, *_) = NativePlan(parse(text), 16).reasons
    assert reason.code == "HETC-E045"
    assert "softmax" in reason.text
