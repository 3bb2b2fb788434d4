"""The text form: what is printed parses back to the same graph."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from hetc.errors import IRError
from hetc.ir.compare import first_difference, same_structure
from hetc.ir.dims import symbol
from hetc.ir.examples import example
from hetc.ir.graph import Graph, GraphBuilder, Program, StateSpec
from hetc.ir.op import OPS, Value
from hetc.ir.ops.control import Call
from hetc.ir.ops.elementwise import Add, Mul
from hetc.ir.ops.source import Full
from hetc.ir.text import (
    format_attribute,
    parse,
    parse_program,
    print_graph,
    print_op,
    print_program,
)
from hetc.ir.types import F32, TensorType
from tests.golden import Golden
from tests.ir.strategies import graphs

DOCS = Path(__file__).parents[2] / "docs"


@settings(max_examples=60)
@given(graphs())
def test_a_random_graph_round_trips(graph: Graph) -> None:
    text = print_graph(graph)
    again = parse(text)
    assert first_difference(graph, again, locations=True) is None
    assert print_graph(again) == text


@pytest.mark.parametrize("kind", OPS)
def test_every_op_round_trips(kind: str) -> None:
    graph = example(kind)
    again = parse(print_graph(graph))
    assert first_difference(graph, again, locations=True) is None


SAMPLE = """
graph @layer(%x: f32[B,S,64], %w: f32[64,64]) {
  %0 = rms_norm %x {eps = 1e-05}            @norm
  %1 = linear %0, %w @proj
  return %1
}
# the whole model
graph @forward(%tokens: i64[B,S]) -> (logits: f32[B,S,64]) {
  %e = weight {name = "embed", type = f32[256,64]} @"an odd place"
  %w = weight {name = "w", type = f32[64,64]}
  %h = embedding %e, %tokens
  %a, %b = split %h {axis = -1, sizes = [32, 32]}
  %c = concat [%b, %a] {axis = -1}
  %l = call @layer(%c, %w) @layers.0
  %m = call @layer(%l, %w) @layers.1
  %z = mul -0.5, %m
  return %z
}
"""


def test_printing_is_canonical(golden: Golden) -> None:
    golden("sample.txt", print_graph(parse(SAMPLE)))


def test_handwritten_text_is_the_same_graph() -> None:
    assert same_structure(parse(SAMPLE), parse(print_graph(parse(SAMPLE))), locations=True)


def test_the_grammar_page_shows_text_that_parses() -> None:
    page = (DOCS / "ir.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```\n(graph .*?)```", page, re.DOTALL)
    assert blocks
    for block in blocks:
        # The page aligns the locations by hand; the rest must be what is printed.
        printed = print_graph(parse(block))
        assert re.sub(r" +(#.*)?\n", "\n", block) == re.sub(r" +\n", "\n", printed)


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (1, "1"),
        (1.0, "1.0"),
        (True, "true"),
        (None, "none"),
        (-0.0, "-0.0"),
        (math.inf, "inf"),
        (10**30, "1" + "0" * 30),
        (np.float64(0.1), "0.1"),
        (symbol("P") + 1, "P+1"),
        ((), "[]"),
        ((1, (2.0, 'a"b\n')), '[1, [2.0, "a\\"b\\n"]]'),
        (TensorType(F32, (symbol("B"), 2)), "f32[B,2]"),
    ],
)
def test_literals(item: object, text: str) -> None:
    assert format_attribute(item) == text


@pytest.mark.parametrize("item", [np.int64(3), [1, 2], {"a": 1}, 1j, b"x"])
def test_what_has_no_text_form_is_an_error(item: object) -> None:
    with pytest.raises(IRError, match="HETC-X106"):
        format_attribute(item)


def test_namesakes_are_told_apart() -> None:
    def layer(scale: float) -> Graph:
        builder = GraphBuilder("layer")
        x = builder.input("x", TensorType(F32, (2,)))
        return builder.finish([builder.add(Mul(x, scale))])

    builder = GraphBuilder("layer.2")
    x = builder.input("x", TensorType(F32, (2,)))
    for scale in (1.0, 2.0):
        x = builder.add(Call(layer(scale), (x,)))
    text = print_graph(builder.finish([x]))
    assert re.findall(r"graph @(\S+)\(", text) == ["layer", "layer.3", "layer.2"]
    assert print_graph(parse(text)) == text


def test_a_broken_graph_still_prints() -> None:
    stray = Full(0.0, (2,)).result
    op = Add(stray, Value(TensorType(F32, (2,)), name="x"))
    graph = Graph("broken", (), (op,), op.results)
    assert "%0 = add %?, %?" in print_graph(graph)
    assert print_op(op) == "add %full, %x"


def test_a_program_round_trips(golden: Golden) -> None:
    forward = parse("graph @forward(%tokens: i64[B,S]) { return %tokens }")
    program = Program(
        "tiny model",
        forward,
        parse("graph @prefill(%tokens: i64[B,S]) { return %tokens }"),
        parse("graph @forward(%tokens: i64[B,T], %past: i64[]) { return %tokens, %past }"),
        (
            StateSpec("layer0.key", "kv", parse_of("f32[B,3,P,64]"), 2, None, 0, "layers.0.attn"),
            StateSpec("layer1.key", "window", parse_of("f32[B,3,W7,64]"), 2, 7, 1),
            StateSpec("scan 0", "recurrent", parse_of("f32[B,64]")),
        ),
        2048,
        ("1 <= S <= 2048", 'a "quoted" fact'),
    )
    text = print_program(program)
    golden("program.txt", text)
    again = parse_program(text)
    assert print_program(again) == text
    assert again.states == program.states
    assert again.facts == program.facts
    assert again.max_context == 2048
    assert first_difference(program.decode, again.decode) is None


def parse_of(text: str) -> TensorType:
    return parse(f"graph @f(%x: {text}) {{ return %x }}").inputs[0].type
