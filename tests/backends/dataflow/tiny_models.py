"""Tiny models, plans of them, and what their logits should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hetc.backends.dataflow.interpret import PlanRun
from hetc.backends.dataflow.planner import Planner, Sizes
from hetc.backends.dataflow.schema import Plan, Request, StageRequest, Tiling
from hetc.driver import CompileOptions
from hetc.driver.plan import Planned, plan
from hetc.ir.graph import Graph
from hetc.ir.interpret import interpret
from hetc.ir.text import parse, print_graph
from hetc.ir.types import Array
from hetc.passes.shard import shard
from hetc.targets import load
from tests.driver.models import build, save

PROMPT, STEPS, CONTEXT = 6, 7, 32
PLAIN = Request()
_LOCAL, _GLOBAL = "sliding_attention", "full_attention"
# Enough layers that equal ones are called in a loop.
CHANGES: dict[str, dict[str, Any]] = {
    "gemma2": {"num_hidden_layers": 4},
    "gpt_oss": {"num_hidden_layers": 4, "layer_types": [_LOCAL, _GLOBAL] * 2},
    "lfm2": {"num_hidden_layers": 7, "layer_types": ["conv", "conv", _GLOBAL] * 2 + ["conv"]},
    "mixtral": {"num_hidden_layers": 3},
}


def small_tiles(batch: int) -> Request:
    """Many tiles of every matrix, some of them cut short, and no more credits than two tiles."""
    tiling = Tiling(outputs=12, inputs=10, rows=batch)
    few = 2 * tiling.outputs * tiling.inputs * 4
    entry = StageRequest(stage="*", tiling=tiling, split_k=3, lanes=6, depth_bytes=few)
    return Request(stages=(entry,))


@dataclass(frozen=True)
class Made:
    """A plan, and the graph of a socket as it is read from text."""

    plan: Plan
    graph: Graph


@dataclass(frozen=True, eq=False)
class Subject:
    """A model through the front half of the compiler, and its reference logits.

    `tokens` i64[B, PROMPT + STEPS], of which `states` are the state after the prompt and `logits`
    [B, STEPS, V] those of every later token.
    """

    planned: Planned
    tokens: Array
    states: Mapping[str, Array]
    logits: Array

    @property
    def new_tokens(self) -> Array:
        return self.tokens[:, PROMPT:]

    def made(self, target: str, request: Request = PLAIN, *, main_memory: float = 1.0) -> Made:
        """The plan for a target whose main memory holds a part of what there is to keep."""
        machine = load(target)
        sharded = shard(self.planned.outlined["decode"], machine.count)
        sizes = Sizes(batch=len(self.tokens), past=PROMPT, context=CONTEXT)
        planner = Planner(
            sharded, machine, sizes, request, "test", row_groups=request.row_groups or 1
        )
        if main_memory < 1:
            whole = Planner(sharded, machine, sizes, request, "test")
            held = sum(piece.total for piece in whole.pieces)
            tiers, main = dict(planner.fabric.tiers), planner.fabric.main_memory
            tiers[main] = replace(tiers[main], bytes=int(held * main_memory))
            planner.fabric = replace(planner.fabric, tiers=tiers)
        return Made(planner.plan(), parse(print_graph(sharded.graph)))

    def run(self, made: Made) -> PlanRun:
        """The plan with weights and the state after the prompt."""
        run = PlanRun(made.plan, made.graph, self.planned.lowered.weights)
        run.load_state(self.states, PROMPT)
        return run

    def largest_error(self, run: PlanRun) -> float:
        """The largest difference of the logits from the reference, over all steps."""
        worst = 0.0
        for step in range(STEPS):
            found = run.step(self.new_tokens[:, step : step + 1])
            error = np.max(np.abs(found[:, 0] - self.logits[:, step]))
            worst = max(worst, np.inf if np.isnan(error) else float(error))
        return worst


def subject(family: str, batch: int, folder: Path) -> Subject:
    """The tiny model of a family, and what the interpreter of the IR says of it."""
    if not folder.exists():
        save(build(family, **CHANGES.get(family, {})), folder)
    return subject_of(folder, batch, CompileOptions(prefill="h200", decode="sn40l"))


def subject_of(source: Path, batch: int, options: CompileOptions) -> Subject:
    """The model at `source`, and what the interpreter of the IR says of it."""
    planned = plan(source, options, lambda step: None)
    program, weights = planned.program, planned.lowered.weights
    shape = batch, PROMPT + STEPS
    tokens = np.random.default_rng(batch).integers(3, planned.vocabulary, shape)
    _, *state = interpret(program.prefill, (tokens[:, :PROMPT],), weights)
    states = dict(zip([spec.name for spec in program.states], state, strict=True))
    rows = []
    for past in range(PROMPT, PROMPT + STEPS):
        given = (tokens[:, past : past + 1], np.asarray(past), *state)
        logits, *state = interpret(program.decode, given, weights, {"P": past})
        rows.append(logits[:, 0])
    return Subject(planned, tokens, states, np.stack(rows, 1))
