"""The plan of a real model writes its text: SmolLM2-135M-Instruct on two sockets of SN40L."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hetc.backends.dataflow.interpret import PlanRun
from hetc.backends.dataflow.planner import Planner, Sizes
from hetc.backends.dataflow.schema import Request
from hetc.driver import CompileOptions
from hetc.driver.plan import plan
from hetc.ir.interpret import interpret
from hetc.ir.text import parse, print_graph
from hetc.passes.shard import shard
from hetc.targets import load

# "Once upon a time, in a small", as the model's tokenizer writes it.
PROMPT = (6403, 1980, 253, 655, 28, 281, 253, 1165)
NEW, CONTEXT = 16, 64
TARGET = "sn40l:2"


@pytest.mark.slow
def test_greedy_text_through_the_plan_is_that_of_the_model(smollm2_gguf: Path) -> None:
    options = CompileOptions(prefill="h200", decode=TARGET, dtype="fp32", context=CONTEXT)
    planned = plan(smollm2_gguf, options, lambda step: None)
    program, weights, machine = planned.program, planned.lowered.weights, load(TARGET)
    prompt = np.array([PROMPT])
    logits, *states = interpret(program.prefill, (prompt,), weights)
    sharded = shard(planned.outlined["decode"], machine.count)
    sizes = Sizes(batch=1, past=len(PROMPT), context=CONTEXT)
    made = Planner(sharded, machine, sizes, Request(), "test").plan()
    run = PlanRun(made, parse(print_graph(sharded.graph)), weights)
    names = [spec.name for spec in program.states]
    run.load_state(dict(zip(names, states, strict=True)), len(PROMPT))
    written = [int(np.argmax(logits[0, -1]))]
    while len(written) < NEW:
        logits = run.step(np.array([written[-1:]]))
        written.append(int(np.argmax(logits[0, -1])))
    whole = np.array([[*PROMPT, *written[:-1]]])
    (expected,) = interpret(program.forward, (whole,), weights)
    assert written == np.argmax(expected[0, len(PROMPT) - 1 :], axis=-1).tolist()
    assert np.max(np.abs(logits[0, -1] - expected[0, -1])) <= 1e-3
