"""What the engine cannot do is a reason that names the op, and never wrong numbers."""

from __future__ import annotations

import pytest

from hetc.backends.native import NativeBackend, NativePlan
from hetc.ir.text import parse
from tests.backends.native.running import case

HEAD = """
graph @decode(%tokens: i64[B,T], %past: i64[]) -> (logits: f32[B,T,8]) {
  %0 = weight {name = "table", type = f32[50,8]}
  %1 = embedding %0, %tokens
"""
POSITIONS = """  %2 = iota {size = T, start = P}
  %3 = cast %2
"""
BODIES = {
    "an op without a form": ("  %2 = cumsum %1 {axis = 2}\n  return %2\n}", "HETC-E040", "cumsum"),
    "sums by index": (
        "  %2 = argmax %1 {axis = 2, keepdim}\n"
        "  %3 = slice %1 {axis = 2, stop = 1}\n"
        '  %4 = put_along %1, %2, %3 {axis = 2, reduction = "add"}\n  return %4\n}',
        "HETC-E040",
        "does not add by index",
    ),
    "rows without a size": (
        "  %2 = reduce_max %1 {axes = [1], keepdim}\n  %3 = add %1, %2\n  return %3\n}",
        "HETC-E045",
        "runs along T elements",
    ),
    "a product of two activations": (
        "  %2 = transpose %1 {perm = [0, 2, 1]}\n  %3 = matmul %1, %2\n"
        "  %4 = matmul %3, %1\n  return %4\n}",
        "HETC-E045",
        "f32[B,T,T]",
    ),
    "the past as a number": (
        "  %2 = cast %past\n  %3 = mul %1, %2\n  return %3\n}",
        "HETC-E040",
        "cannot read past",
    ),
    "a table whose rows depend on how many there are": (
        POSITIONS + "  %4 = reduce_max %3 {axes = [0], keepdim}\n  %5 = sub %3, %4\n"
        "  %6 = reshape %5 {shape = [1, T, 1]}\n  %7 = mul %1, %6\n  return %7\n}",
        "HETC-E044",
        "depend on more",
    ),
    "no table at all": (
        POSITIONS + "  %4 = reduce_max %3 {axes = [0], keepdim}\n  %5 = mul %1, %4\n  return %5\n}",
        "HETC-E044",
        "no table of positions",
    ),
    "positions of no sequence": (
        POSITIONS + "  %4 = slice %1 {axis = 0, stop = 1}\n"
        "  %5 = reshape %3 {shape = [1, T, 1]}\n  %6 = mul %4, %5\n"
        "  %7 = broadcast %6 {shape = [B, T, 8]}\n  return %7\n}",
        "HETC-E044",
        "no axis of sequences",
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_reasons(name: str) -> None:
    body, code, words = BODIES[name]
    (reason,) = case(HEAD + body).plan.reasons
    assert reason.code == code
    assert words in reason.text


def test_a_context_without_bounds_has_no_tables() -> None:
    body = POSITIONS + "  %4 = reshape %3 {shape = [1, T, 1]}\n  %5 = mul %1, %4\n  return %5\n}"
    made = case(HEAD + body)
    assert made.plan.reasons == ()
    (reason,) = NativePlan(made.graph, 2**30, weights=made.weight).reasons
    assert reason.code == "HETC-E044"
    assert "4.3 GB" in reason.text


def test_what_hangs_on_a_refused_op_is_not_blamed() -> None:
    body = "  %2 = cumsum %1 {axis = 2}\n  %3 = relu %2\n  %4 = add %3, %1\n  return %4\n}"
    assert len(case(HEAD + body).plan.reasons) == 1


def test_the_backend_answers_for_an_op_and_for_a_half() -> None:
    graph = parse(HEAD + "  %2 = cumsum %1 {axis = 2}\n  return %2\n}")
    backend = NativeBackend()
    answers = [backend.supports(op) for op in graph.ops]
    assert [answer is None for answer in answers] == [True, True, False]
    assert [reason.code for reason in backend.validate(graph)] == ["HETC-E040"]
