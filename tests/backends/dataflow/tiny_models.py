"""Tiny models with a plan each, and what their logits should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hetc.backends.dataflow.interpret import PlanRun
from hetc.backends.dataflow.planner import Planner, Sizes
from hetc.backends.dataflow.schema import Plan, Request
from hetc.driver import CompileOptions
from hetc.driver.plan import Planned, plan
from hetc.ir.graph import Graph
from hetc.ir.interpret import interpret
from hetc.ir.text import parse, print_graph
from hetc.ir.types import Array
from hetc.passes.shard import shard
from hetc.targets import load

NO_REQUEST = Request()

PROMPT, STEPS, CONTEXT = 6, 7, 32


@dataclass(frozen=True)
class Subject:
    """A model through the compiler's front half, and its reference logits for some tokens.

    `tokens` i64[B, PROMPT + STEPS] of which `states` are the state after the prompt; `logits`
    [B, STEPS, V] those of every later token.
    """

    planned: Planned
    tokens: Array
    states: Mapping[str, Array]
    logits: Array

    def planner(self, target: str, request: Request = NO_REQUEST) -> tuple[Plan, Graph]:
        """The plan for a target, and the graph of a socket as it is read from text."""
        machine = load(target)
        sharded = shard(self.planned.outlined["decode"], machine.count)
        sizes = Sizes(batch=len(self.tokens), past=PROMPT, context=CONTEXT)
        made = Planner(sharded, machine, sizes, request, "test").plan()
        return made, parse(print_graph(sharded.graph))

    def run(self, made: Plan, graph: Graph) -> PlanRun:
        """The plan with weights and the state after the prompt."""
        run = PlanRun(made, graph, self.planned.lowered.weights)
        run.load_state(self.states, PROMPT)
        return run

    def largest_error(self, run: PlanRun) -> float:
        """The largest difference of the logits from the reference, over all steps."""
        worst = 0.0
        for step in range(STEPS):
            found = run.step(self.tokens[:, PROMPT + step : PROMPT + step + 1])
            difference = np.abs(found[:, 0] - self.logits[:, step])
            worst = max(worst, float(np.max(np.where(np.isnan(difference), np.inf, difference))))
        return worst


def subject(source: Path, batch: int) -> Subject:
    """The model in a directory, and what the interpreter of the IR says of it."""
    planned = plan(source, CompileOptions(prefill="h200", decode="sn40l"), lambda step: None)
    program, weights = planned.program, planned.lowered.weights
    tokens = np.random.default_rng(batch).integers(3, planned.vocabulary, (batch, PROMPT + STEPS))
    _, *state = interpret(program.prefill, (tokens[:, :PROMPT],), weights)
    names = [spec.name for spec in program.states]
    states = dict(zip(names, state, strict=True))
    rows = []
    for past in range(PROMPT, PROMPT + STEPS):
        given = (tokens[:, past : past + 1], np.asarray(past), *state)
        logits, *state = interpret(program.decode, given, weights, {"P": past})
        rows.append(logits[:, 0])
    return Subject(planned, tokens, states, np.stack(rows, 1))
