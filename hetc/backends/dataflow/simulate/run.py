"""One call for the three ways to time a plan."""

from __future__ import annotations

from hetc.backends.dataflow.schema import Plan
from hetc.backends.dataflow.simulate.analytic import closed_form
from hetc.backends.dataflow.simulate.assemble import simulated
from hetc.backends.dataflow.simulate.engine import run_maxplus
from hetc.backends.dataflow.simulate.heap import run_heap
from hetc.backends.dataflow.simulate.result import Mode, Simulated
from hetc.backends.dataflow.simulate.speeds import Speeds
from hetc.backends.dataflow.simulate.unroll import unroll
from hetc.errors import UsageError


def simulate(plan: Plan, speeds: Speeds, *, mode: Mode = "maxplus", tokens: int = 3) -> Simulated:
    """Time `tokens` tokens, at least two, and answer what the last one added.

    `maxplus` is the longest path; `heap` is the same by events, slow, an oracle; `analytic` is the
    closed form. Raises BackendError HETC-L101 to HETC-L110 for a plan that cannot be timed.
    """
    if tokens < 2:
        raise UsageError(
            "HETC-L109", "a token is timed as the difference of two", at="tokens", found=tokens
        )
    timing = unroll(plan, speeds)
    if mode == "heap":
        outcome = run_heap(timing, tokens)
    elif mode == "analytic":
        outcome = closed_form(timing)
    else:
        outcome = run_maxplus(timing, tokens)[0]
    return simulated(plan, speeds, timing, outcome, mode)
