"""Compare a plan with given logits, teacher-forced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hetc.backends.dataflow.interpret.run import PlanRun
from hetc.backends.dataflow.schema import Plan
from hetc.ir.graph import Graph
from hetc.ir.interpret import WeightLookup
from hetc.ir.types import Array


@dataclass(frozen=True)
class PlanCheck:
    """How far the logits of a plan are from those expected.

    `first_divergence` is the position whose logits first exceeded the tolerance, None where none
    did; `same_top` counts the rows whose largest logit is the expected one, of `rows`.
    """

    max_abs_error: float
    first_divergence: int | None
    same_top: int
    rows: int

    @property
    def ok(self) -> bool:
        return self.first_divergence is None


def verify_plan(
    plan: Plan,
    graph: Graph,
    weights: WeightLookup,
    states: Mapping[str, Array],
    tokens: Array,
    expected: Array,
    *,
    past: int,
    tolerance: float,
) -> PlanCheck:
    """Run `tokens` i64[B,N] one by one after `past` tokens, and compare the logits with `expected`
    [B,N,V].

    `graph` is that of one socket, `weights` and `states` are the whole model's. Raises PlanError
    where the plan cannot be executed.
    """
    run = PlanRun(plan, graph, weights)
    run.load_state(states, past)
    worst, same, divergence = 0.0, 0, None
    for step in range(tokens.shape[1]):
        found = run.step(tokens[:, step : step + 1])[:, 0].astype(np.float32)
        wanted = expected[:, step]
        error = float(np.max(np.abs(found - wanted)))
        worst = max(worst, error)
        same += int(np.sum(np.argmax(found, -1) == np.argmax(wanted, -1)))
        if not error <= tolerance and divergence is None:
            divergence = past + step
    return PlanCheck(worst, divergence, same, tokens.shape[0] * tokens.shape[1])
