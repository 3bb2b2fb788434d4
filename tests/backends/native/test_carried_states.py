"""States of one size: what convolutions and recurrences carry on; and latents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hetc.backends.native.normal_form import normal_form
from hetc.ir.interpret import interpret
from tests.backends.native.running import Case, case, executors, largest_error

LAYERS = """
graph @decode(%tokens: i64[B,T], %past: i64[], {inputs}) -> (logits: f32[B,T,{width}], {outputs}) {{
  %t = weight {{name = "table", type = f32[50,{width}]}}
  %h = embedding %t, %tokens
  {calls}
  return {last}
}}"""


def two_layers(body: str, width: int, weights: dict[str, str], states: dict[str, str]) -> str:
    """A loop over two layers `body`, each with `weights` and `states` (name -> type) of its own."""
    formals = [f"%{name}: {type}" for name, type in (weights | states).items()]
    grown = {name: type.replace("P", "P+T") for name, type in states.items()}
    layer = f"graph @layer(%x: f32[B,T,{width}], {', '.join(formals)}) -> "
    layer += f"(f32[B,T,{width}], {', '.join(grown.values())}) {{\n  {body}\n}}\n"
    calls, x = "", "%h"
    last: list[str] = []
    for number in range(2):
        for name, type in weights.items():
            calls += f'%{name}{number} = weight {{name = "{name}{number}", type = {type}}}\n  '
        given = [f"%{name}{number}" for name in weights] + [f"%l{number}.{name}" for name in states]
        made = [f"%o{number}.{name}" for name in states]
        calls += f"%y{number}, {', '.join(made)} = call @layer({x}, {', '.join(given)})\n  "
        x, last = f"%y{number}", [*last, *made]
    inputs = ", ".join(f"%l{n}.{name}: {type}" for n in range(2) for name, type in states.items())
    outputs = ", ".join(
        f"l{n}.{name}.out: {type}" for n in range(2) for name, type in grown.items()
    )
    return layer + LAYERS.format(
        inputs=inputs,
        outputs=outputs,
        width=width,
        calls=calls,
        last=", ".join([x, *last]),
    )


def check(made: Case, folder: Path, tolerance: float = 3e-5) -> None:
    assert made.plan.reasons == ()
    rng = np.random.default_rng(1)
    for threads in (1, 3):
        with executors(made, folder, threads) as ran:
            for batch, steps in ((1, [1, 1, 4, 1]), (3, [40, 1, 5, 1])):
                tokens = rng.integers(0, 50, (batch, sum(steps)))
                assert largest_error(made, ran, tokens, steps) < tolerance


def same_in_normal_form(made: Case) -> None:
    """What the planner makes of the graph computes the same, by the interpreter."""
    rng = np.random.default_rng(2)
    tokens = rng.integers(0, 50, (2, 3))
    states = {}
    for value in made.graph.inputs[2:]:
        known = {"B": 2, "P": 4}
        sizes = [size if isinstance(size, int) else known[str(size)] for size in value.shape]
        states[value.name] = rng.normal(0, 0.3, sizes).astype(value.dtype.numpy)
    inputs = [tokens, np.array(4), *states.values()]
    graphs = (made.graph, normal_form(made.graph))
    for first, second in zip(
        *(interpret(graph, inputs, made.weight, {"P": 4}) for graph in graphs), strict=True
    ):
        np.testing.assert_allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 20])
def test_convolutions(groups: int, bias: bool, tmp_path: Path) -> None:
    options = "history = %conv" + f", groups = {groups}" * (groups > 1) + ", bias = %b" * bias
    body = f"""%c = transpose %x {{perm = [0, 2, 1]}}
  %y = conv1d_causal %c, %w {{{options}}}
  %j = concat [%conv, %c] {{axis = 2}}
  %n = slice %j {{axis = 2, start = T, stop = T+3}}
  %z = transpose %y {{perm = [0, 2, 1]}}
  %s = tanh %z
  %r = add %x, %s
  return %r, %n"""
    weights = {"w": f"f32[20,{20 // groups},4]", "b": "f32[20]"}
    made = case(two_layers(body, 20, weights, {"conv": "f32[B,20,3]"}))
    same_in_normal_form(made)
    check(made, tmp_path)


@pytest.mark.parametrize("maximum", ["", ", maximum"])
@pytest.mark.parametrize("decay", ["0.5", "%d"])
def test_recurrences(decay: str, maximum: str, tmp_path: Path) -> None:
    body = f"""%p = mul %x, %w
  %d = sigmoid %p
  %a, %l = scan %x, {decay} {{initial = %held, axis = 1{maximum}}}
  %r = tanh %a
  return %r, %l"""
    made = case(two_layers(body, 20, {"w": "f32[20]"}, {"held": "f32[B,20]"}))
    check(made, tmp_path)


HEADS, NOPE, ROPE, RANK, VALUE, HIDDEN = 4, 6, 4, 10, 5, 12
QUERY, KEY = HEADS * (NOPE + ROPE), HEADS * (NOPE + VALUE)
LATENT = f"""%c = linear %x, %down
  %k = linear %x, %turn
  %k4 = reshape %k {{shape = [B, 1, T, {ROPE}]}}
  %latents = kv_append %latent, LATENT {{axis = AXIS}}
  %shared = kv_append %key, %k4 {{axis = 2}}
  %e = linear %latents, %up
  %e4 = reshape %e {{shape = [B, P+T, {HEADS}, {NOPE + VALUE}]}}
  %et = transpose %e4 {{perm = [0, 2, 1, 3]}}
  %own, %v = split %et {{axis = 3, sizes = [{NOPE}, {VALUE}]}}
  %all = broadcast %shared {{shape = [B, {HEADS}, P+T, {ROPE}]}}
  %keys = concat [%own, %all] {{axis = 3}}
  %q = linear %x, %query
  %q4 = reshape %q {{shape = [B, T, {HEADS}, {NOPE + ROPE}]}}
  %qt = transpose %q4 {{perm = [0, 2, 1, 3]}}
  %o = attention %qt, %keys, %v {{scale = 0.3, causal}}
  %ot = transpose %o {{perm = [0, 2, 1, 3]}}
  %of = reshape %ot {{shape = [B, T, {HEADS * VALUE}]}}
  %p = linear %of, %out
  %r = add %x, %p
  return %r, %latents, %shared"""


@pytest.mark.parametrize("rank", [3, 4])
def test_latents(rank: int, tmp_path: Path) -> None:
    """Keys and values of every head come from a latent; neither is ever made of it."""
    body = LATENT.replace("AXIS", str(rank - 2))
    if rank == 4:
        body = body.replace(
            "%latents =", f"%c4 = reshape %c {{shape = [B, 1, T, {RANK}]}}\n  %latents ="
        )
    body = body.replace("LATENT", "%c4" if rank == 4 else "%c")
    held = f"f32[B,1,P,{RANK}]" if rank == 4 else f"f32[B,P,{RANK}]"
    weights = {
        "down": f"f32[{RANK},{HIDDEN}]",
        "turn": f"f32[{ROPE},{HIDDEN}]",
        "up": f"f32[{KEY},{RANK}]",
        "query": f"f32[{QUERY},{HIDDEN}]",
        "out": f"f32[{HIDDEN},{HEADS * VALUE}]",
    }
    states = {"latent": held, "key": f"f32[B,1,P,{ROPE}]"}
    made = case(two_layers(body, HIDDEN, weights, states))
    kinds = {op.kind for graph in normal_form(made.graph).subgraphs() for op in graph.ops}
    assert "matmul" in kinds
    assert "split" not in kinds
    same_in_normal_form(made)
    # Of logits that reach 50.
    check(made, tmp_path, 3e-4)


def test_layers_that_read_positions_of_their_own(tmp_path: Path) -> None:
    """Two calls of one graph that are no loop: what differs between them is no weight."""
    made = case("""
graph @layer(%x: f32[B,T,20], %w: f32[20,20], %d: f32[B,T,20], %held: f32[B,20]) ->
  (f32[B,T,20], f32[B,20]) {
  %p = linear %x, %w
  %a, %l = scan %p, %d {initial = %held}
  %r = tanh %a
  return %r, %l
}
graph @decode(%tokens: i64[B,T], %past: i64[], %l0.held: f32[B,20], %l1.held: f32[B,20]) ->
  (logits: f32[B,T,20], l0.held.out: f32[B,20], l1.held.out: f32[B,20]) {
  %t = weight {name = "table", type = f32[50,20]}
  %h = embedding %t, %tokens
  %w0 = weight {name = "w0", type = f32[20]}
  %b0 = broadcast %w0 {shape = [B, T, 20]}
  %d0 = tanh %b0
  %w1 = weight {name = "w1", type = f32[20]}
  %b1 = broadcast %w1 {shape = [B, T, 20]}
  %d1 = tanh %b1
  %m0 = weight {name = "m0", type = f32[20,20]}
  %m1 = weight {name = "m1", type = f32[20,20]}
  %y0, %s0 = call @layer(%h, %m0, %d0, %l0.held)
  %y1, %s1 = call @layer(%y0, %m1, %d1, %l1.held)
  return %y1, %s0, %s1
}""")
    check(made, tmp_path)


@pytest.mark.parametrize("delta", [False, True])
@pytest.mark.parametrize(("groups", "heads", "rows", "columns"), [(2, 4, 5, 3), (1, 3, 4, 20)])
def test_matrices(
    groups: int, heads: int, rows: int, columns: int, delta: bool, tmp_path: Path
) -> None:
    """Heads that share keys, rows that are no multiple of lanes, and decays by head or row."""
    decay_width = 1 if delta else rows
    body = f"""%qr = linear %x, %wq
  %q4 = reshape %qr {{shape = [B,T,{groups},{rows}]}}
  %qt = transpose %q4 {{perm = [0, 2, 1, 3]}}
  %q = tanh %qt
  %kr = linear %x, %wk
  %k4 = reshape %kr {{shape = [B,T,{groups},{rows}]}}
  %kt = transpose %k4 {{perm = [0, 2, 1, 3]}}
  %kb = tanh %kt
  %k = mul %kb, 0.3
  %vr = linear %x, %wv
  %v4 = reshape %vr {{shape = [B,T,{heads},{columns}]}}
  %v = transpose %v4 {{perm = [0, 2, 1, 3]}}
  %dr = linear %x, %wd
  %d4 = reshape %dr {{shape = [B,T,{heads},{decay_width}]}}
  %dt = transpose %d4 {{perm = [0, 2, 1, 3]}}
  %d = sigmoid %dt
  %br = linear %x, %wb
  %b4 = reshape %br {{shape = [B,T,{heads},1]}}
  %bt = transpose %b4 {{perm = [0, 2, 1, 3]}}
  %b = sigmoid %bt
  %y, %l = linear_attention %q, %k, %v, %d {{initial = %held{", beta = %b" * delta}}}
  %yt = transpose %y {{perm = [0, 2, 1, 3]}}
  %yf = reshape %yt {{shape = [B,T,{heads * columns}]}}
  %o = linear %yf, %wo
  %r = tanh %o
  return %r, %l"""
    weights = {
        "wq": f"f32[{groups * rows},20]",
        "wk": f"f32[{groups * rows},20]",
        "wv": f"f32[{heads * columns},20]",
        "wd": f"f32[{heads * decay_width},20]",
        "wb": f"f32[{heads},20]",
        "wo": f"f32[20,{heads * columns}]",
    }
    made = case(two_layers(body, 20, weights, {"held": f"f32[B,{heads},{rows},{columns}]"}))
    check(made, tmp_path, 2e-4)
