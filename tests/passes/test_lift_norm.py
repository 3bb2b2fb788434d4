"""RMSNorm and LayerNorm in the forms that models write them in."""

from __future__ import annotations

import pytest

from hetc.ir.text import parse
from hetc.passes.lift_norm import LiftRMSNorm
from hetc.passes.rewrite import RewriteLog, apply
from tests.golden import Golden
from tests.passes.harness import cases, check

OVER_TOKENS = """
graph @norm(%x: f32[B,S,64]) -> (f32[B,S,64]) {
  %0 = pow %x, 2.0
  %1 = mean %0 {axes = [1], keepdim}
  %2 = add %1, 1e-06
  %3 = rsqrt %2
  %4 = mul %x, %3  @layers.0.norm
  return %4
}
"""


@pytest.mark.parametrize("case", cases("lift-norms"))
def test_golden(case: str, golden: Golden) -> None:
    check("lift-norms", case, golden)


def test_a_refusal_says_why_and_where() -> None:
    log = RewriteLog()
    apply(parse(OVER_TOKENS), (LiftRMSNorm(),), log)
    assert not log.fired
    assert [str(reason) for reason in log.refused] == [
        "HETC-C020 at layers.0.norm: the mean is not over the last axis alone"
    ]
