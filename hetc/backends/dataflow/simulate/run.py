"""One call that times a plan."""

from __future__ import annotations

from hetc.backends.dataflow.schema import Plan
from hetc.backends.dataflow.simulate.assemble import simulated
from hetc.backends.dataflow.simulate.engine import run_maxplus
from hetc.backends.dataflow.simulate.result import Simulated
from hetc.backends.dataflow.simulate.speeds import Speeds
from hetc.backends.dataflow.simulate.unroll import unroll
from hetc.errors import UsageError


def simulate(plan: Plan, speeds: Speeds, *, tokens: int = 3) -> Simulated:
    """Time `tokens` tokens and answer what the last one added.

    Raises BackendError HETC-L101 to HETC-L108 for a plan that cannot be timed.
    """
    if tokens < 2:
        raise UsageError("HETC-L109", "a token is timed as the difference of two", found=tokens)
    timing = unroll(plan, speeds)
    outcome, _ = run_maxplus(timing, tokens)
    return simulated(plan, speeds, timing, outcome, "maxplus")
