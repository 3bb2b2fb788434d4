"""Convolutions and scans carry on a state of one size: a plan reads it once, and replaces it
whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from hetc.backends.dataflow.interpret import PlanRun
from hetc.backends.dataflow.planner import Planner, Sizes
from hetc.backends.dataflow.schema import Append, Plan, Request, Stage
from hetc.driver.spatial import plan_spatially
from hetc.ir.graph import Graph, Program
from hetc.ir.interpret import interpret
from hetc.ir.text import parse, print_graph
from hetc.ir.types import Array
from hetc.passes.manager import PassOptions, run_passes
from hetc.passes.outline_layers import outline_layers
from hetc.passes.registry import load_pipeline
from hetc.passes.shard import shard
from hetc.passes.workload import Workload
from hetc.targets import load
from tests.passes.blocks import random_weights

LAYERS, STEPS, CONTEXT, TOLERANCE = 3, 6, 32, 1e-4
TARGETS = ("grid-8x8", "grid-8x8:2", "sn40l:2")


def _layer(number: int, x: str) -> str:
    """A convolution of a window of 4 inputs gates a recurrence; a residual goes around both."""
    n, at = number, f"@layers.{number}.mixer"
    return f"""
  %up{n} = weight {{name = "layers.{n}.mixer.up", type = f32[16,16]}}
  %in{n} = linear {x}, %up{n}  {at}.up
  %turned{n} = transpose %in{n} {{perm = [0, 2, 1]}}  {at}
  %taps{n} = weight {{name = "layers.{n}.mixer.taps", type = f32[16,1,4]}}
  %bias{n} = weight {{name = "layers.{n}.mixer.bias", type = f32[16]}}
  %mixed{n} = conv1d_causal %turned{n}, %taps{n} {{bias = %bias{n}, groups = 16}}  {at}.conv
  %back{n} = transpose %mixed{n} {{perm = [0, 2, 1]}}  {at}
  %decay{n} = sigmoid %back{n}  {at}
  %bounded{n} = tanh %in{n}  {at}
  %rows{n}, %last{n} = scan %bounded{n}, %decay{n}  {at}.scan
  %down{n} = weight {{name = "layers.{n}.mixer.down", type = f32[16,16]}}
  %out{n} = linear %rows{n}, %down{n}  {at}.down
  %x{n} = add %out{n}, {x}  @layers.{n}
"""


def _matrix_layer(number: int, x: str) -> str:
    """A delta rule of four heads, two of which share a key."""
    n, at = number, f"@layers.{number}.mixer"
    sizes = {"q": (2, 4), "k": (2, 4), "v": (4, 4), "d": (4, 1), "b": (4, 1)}
    parts = [
        f"""
  %w{p}{n} = weight {{name = "layers.{n}.mixer.{p}", type = f32[{heads * width},16]}}
  %{p}r{n} = linear {x}, %w{p}{n}  {at}.{p}
  %{p}p{n} = reshape %{p}r{n} {{shape = [B,S,{heads},{width}]}}  {at}
  %{p}t{n} = transpose %{p}p{n} {{perm = [0, 2, 1, 3]}}  {at}
  %{p}{n} = {"tanh" if width > 1 else "sigmoid"} %{p}t{n}  {at}"""
        for p, (heads, width) in sizes.items()
    ]
    return f"""{"".join(parts)}
  %rows{n}, %last{n} = linear_attention %q{n}, %k{n}, %v{n}, %d{n} {{beta = %b{n}}}  {at}.rule
  %turned{n} = transpose %rows{n} {{perm = [0, 2, 1, 3]}}  {at}
  %flat{n} = reshape %turned{n} {{shape = [B,S,16]}}  {at}
  %down{n} = weight {{name = "layers.{n}.mixer.down", type = f32[16,16]}}
  %out{n} = linear %flat{n}, %down{n}  {at}.down
  %x{n} = add %out{n}, {x}  @layers.{n}
"""


def forward(layer: Callable[[int, str], str]) -> Graph:
    body = "".join(layer(n, f"%x{n - 1}" if n else "%embedded") for n in range(LAYERS))
    return parse(f"""
graph @forward(%tokens: i64[B,S]) -> (logits: f32[B,S,32]) {{
  %table = weight {{name = "embed", type = f32[32,16]}}
  %embedded = embedding %table, %tokens  @embed
{body}
  %head = weight {{name = "head", type = f32[32,16]}}
  %logits = linear %x{LAYERS - 1}, %head  @head
  return %logits
}}
""")


@dataclass(frozen=True)
class Model:
    program: Program
    decode: Graph
    weights: Callable[[str], Array]

    def state_after(self, prompt: Array) -> list[Array]:
        if prompt.shape[1]:
            return list(interpret(self.program.prefill, (prompt,), self.weights)[1:])
        batch = len(prompt)
        return [np.zeros((batch, *spec.type.shape[1:]), np.float32) for spec in self.program.states]


def model(layer: Callable[[int, str], str]) -> Model:
    graph = forward(layer)
    weights = random_weights(graph)
    passes = load_pipeline("prove-causal,synthesize-state,simplify")
    made = run_passes(passes, graph, PassOptions(weights, CONTEXT))
    assert isinstance(made, Program)
    return Model(made, outline_layers(made.decode), weights)


MODELS = {"channels": model(_layer), "matrices": model(_matrix_layer)}
# The logits of matrices reach tens.
RELATIVE = {"channels": 0.0, "matrices": 1e-5}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("past", [0, 2, 5])
def test_logits_are_those_of_the_reference(name: str, target: str, batch: int, past: int) -> None:
    """Also while the window is not yet full."""
    model = MODELS[name]
    machine = load(target)
    sharded = shard(model.decode, machine.count)
    sizes = Sizes(batch, past, CONTEXT)
    plan = Planner(sharded, machine, sizes, Request(), "test").plan()
    run = PlanRun(plan, parse(print_graph(sharded.graph)), model.weights)
    tokens = np.random.default_rng(batch).integers(0, 32, (batch, past + STEPS))
    state = model.state_after(tokens[:, :past])
    names = [spec.name for spec in model.program.states]
    run.load_state(dict(zip(names, state, strict=True)), past)
    for now in range(past, past + STEPS):
        given = (tokens[:, now : now + 1], np.asarray(now), *state)
        logits, *state = interpret(model.program.decode, given, model.weights, {"P": now})
        np.testing.assert_allclose(run.step(given[0]), logits, rtol=RELATIVE[name], atol=TOLERANCE)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("target", TARGETS)
def test_a_state_is_read_once_and_written_where_it_is_read(name: str, target: str) -> None:
    quick = Request(place_moves=1_000)
    spatial = plan_spatially(MODELS[name].decode, load(target), Workload(3, 40, 8), quick)
    assert not [finding for finding in spatial.findings if finding.severity == "error"]
    written = {append.tensor: append for block in spatial.plan.blocks for append in block.appends}
    assert len(written) == {"channels": 2, "matrices": 1}[name]
    for tensor, append in written.items():
        (stage,) = readers(spatial.plan, tensor)
        assert (append.stage, append.whole, append.ring) == (stage.id, True, None)
        assert stage.template == _template(append)


def readers(plan: Plan, tensor: str) -> list[Stage]:
    """The stages that a state streams to."""
    streams = {
        stream.stage
        for block in plan.blocks
        for stream in block.streams
        if stream.kind == "state" and tensor in stream.tensors
    }
    return [stage for block in plan.blocks for stage in block.stages if stage.id in streams]


def _template(append: Append) -> str:
    return "conv" if append.tensor.startswith("conv") else "scan"
