"""The verifier finds what is wrong, all of it, and nothing in graphs that are right."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from hetc.errors import IRError
from hetc.ir.dims import symbol
from hetc.ir.examples import example
from hetc.ir.graph import Graph, GraphBuilder, Program, StateSpec
from hetc.ir.op import OPS, Op, Value
from hetc.ir.ops.elementwise import Add, Cast, Mul, Neg
from hetc.ir.ops.shape import Broadcast, Reshape, Transpose
from hetc.ir.ops.source import Full, Weight
from hetc.ir.text import parse, parse_program
from hetc.ir.types import F32, TensorType, parse_type
from hetc.ir.verify import Stage, problems, verify
from tests.golden import Golden
from tests.ir.strategies import graphs

F2 = TensorType(F32, (2,))


def codes(graph: Graph | Program, stage: Stage = Stage.IMPORTED) -> list[str]:
    return [reason.code for reason in problems(graph, stage)]


def broken(op: Op, **fields: Any) -> Op:
    """An op that was changed behind its back, as no constructor would have it."""
    op.__dict__.update(fields)
    return op


@pytest.mark.parametrize("kind", OPS)
def test_every_example_is_right(kind: str) -> None:
    verify(example(kind), Stage.SPLIT)


@settings(max_examples=30)
@given(graphs(calls=False))
def test_random_graphs_are_right_as_they_come(graph: Graph) -> None:
    unknown = {"HETC-X112", "HETC-X113", "HETC-X115", "HETC-X116"}
    assert set(codes(graph)) <= unknown


def test_use_before_definition() -> None:
    x = Value(F2, name="x")
    first = Neg(x)
    second = Neg(first.result)
    assert codes(Graph("g", (x,), (first, second), second.results)) == []
    assert codes(Graph("g", (x,), (second, first), second.results)) == ["HETC-X110"]
    assert codes(Graph("g", (), (first,), first.results)) == ["HETC-X110"]
    assert codes(Graph("g", (x,), (first,), second.results)) == ["HETC-X110"]


def test_types_are_inferred_again() -> None:
    x = Value(F2, name="x")
    op = Neg(x)
    op.result.type = TensorType(F32, (3,))
    assert codes(Graph("g", (x,), (op,), op.results)) == ["HETC-X111"]
    x = Value(F2, name="x")
    misfit = broken(Add(x, x), y=Value(TensorType(F32, (3,)), name="y"))
    broken(misfit, operands=(misfit.x, misfit.y))  # type: ignore[attr-defined]
    inputs = (x, misfit.y)  # type: ignore[attr-defined]
    assert codes(Graph("g", inputs, (misfit,), misfit.results)) == ["HETC-X111"]


def test_results_belong_to_their_op() -> None:
    x = Value(F2, name="x")
    one, two = Neg(x), Neg(x)
    stolen = broken(two, results=one.results)
    assert codes(Graph("g", (x,), (stolen,), stolen.results)) == ["HETC-X111"]


def test_sizes_come_from_inputs() -> None:
    text = "graph @f(%x: f32[B,S]) {{ %0 = full {{value = 0.0, shape = [{}]}} return %0 }}"
    assert codes(parse(text.format("B*S+1"))) == []
    assert codes(parse(text.format("Q"))) == ["HETC-X112"]
    assert codes(parse(text.format("K7"))) == []
    assert codes(parse(text.format("P"))) == ["HETC-X112"]
    assert codes(parse(text.replace("%x: f32[B,S]", "%past: i64[]").format("P"))) == []
    assert codes(parse(text.replace("%x: f32[B,S]", "%x: f32[B]").format("K7"))) == ["HETC-X112"]


def test_sizes_are_numbers_from_zero_up() -> None:
    bad = Full(0.0, (np.int64(2),))  # type: ignore[arg-type]
    assert "HETC-X116" in codes(Graph("g", (), (bad,), bad.results))
    assert "HETC-X114" in codes(Graph("g", (), (bad,), bad.results))
    negative = Full(0.0, (-2,))
    assert codes(Graph("g", (), (negative,), negative.results)) == ["HETC-X116"]


def test_a_weight_has_one_type() -> None:
    builder = GraphBuilder("g")
    one = builder.add(Weight("w", F2))
    same = builder.add(Weight("w", F2))
    assert codes(builder.finish([one, same])) == []
    other = builder.add(Weight("w", TensorType(F32, (3,))))
    assert codes(builder.finish([one, same, other])) == ["HETC-X113"]


def test_names_are_unique() -> None:
    x, y, unnamed = Value(F2, name="x"), Value(F2, name="x"), Value(F2)
    assert codes(Graph("g", (x, y), (), ())) == ["HETC-X115"]
    assert codes(Graph("g", (x, unnamed), (), ())) == ["HETC-X115"]
    assert codes(Graph("g", (x,), (), (x, x), ("a", "a"))) == ["HETC-X115"]
    assert codes(Graph("g", (x,), (), (x,), ("a", "b"))) == ["HETC-X115"]


def test_attributes_have_a_text_form() -> None:
    x = Value(F2, name="x")
    op = Reshape(x, [2])  # type: ignore[arg-type]
    assert "HETC-X114" in codes(Graph("g", (x,), (op,), op.results))


def test_canonical_graphs_do_nothing_in_vain() -> None:
    x = Value(F2, name="x")
    for op in (Cast(x, F32), Reshape(x, (2,)), Broadcast(x, (2,)), Transpose(x, (0,))):
        graph = Graph("g", (x,), (op,), op.results)
        assert codes(graph) == []
        assert codes(graph, Stage.CANONICAL) == ["HETC-X120"]
    dead = Neg(x)
    assert codes(Graph("g", (x,), (dead,), (x,)), Stage.CANONICAL) == ["HETC-X121"]


def test_later_stages() -> None:
    opaque = example("opaque")
    assert codes(opaque, Stage.SPLIT) == []
    assert codes(opaque, Stage.LOWERED) == ["HETC-X160"]
    line = '%0 = transfer %x {source = "a", destination = "a"}'
    still = parse(f"graph @f(%x: f32[2]) {{ {line} return %0 }}")
    assert codes(still, Stage.MARKED) == []
    assert codes(still, Stage.SPLIT) == ["HETC-X150"]


def test_callees_are_looked_at_once_and_know_their_callers_sizes() -> None:
    callee = "graph @c(%x: f32[2]) { %0 = full {value = 0.0, shape = [S, Q]} return %0 }"
    caller = "graph @f(%x: f32[2], %y: f32[S]) { %0 = call @c(%x) %1 = call @c(%x) return %0, %1 }"
    found = problems(parse(callee + caller))
    assert [reason.code for reason in found] == ["HETC-X112"]
    assert "@c" in found[0].at


def test_verify_raises_the_first_and_counts_the_rest(golden: Golden) -> None:
    text = """graph @f(%x: f32[2]) {
      %0 = full {value = 0.0, shape = [Q]} @layers.0.mlp
      %1 = full {value = 0.0, shape = [R]}
      return %0
    }"""
    verify(parse("graph @f(%x: f32[2]) { return %x }"), Stage.LOWERED)
    with pytest.raises(IRError) as caught:
        verify(parse(text), Stage.CANONICAL)
    golden("verify-error.txt", str(caught.value))


PROGRAM = """
program tiny {forward = @forward, prefill = @prefill, decode = @decode, max_context = 64}
state key: f32[B,P,4] {kind = "kv", axis = 1, layer = 0}
state near: f32[B,W3,4] {kind = "window", axis = 1, keep = 3, layer = 1}
state conv: f32[B,4,2] {kind = "conv", axis = 2, keep = 2}
state h: f32[B,4] {kind = "recurrent"}

graph @forward(%tokens: i64[B,S]) -> (logits: f32[B,S,4]) {
  %0 = weight {name = "embed", type = f32[9,4]}
  %1 = embedding %0, %tokens
  return %1
}
graph @prefill(%tokens: i64[B,S]) {
  %0 = weight {name = "embed", type = f32[9,4]}
  %1 = embedding %0, %tokens
  %2 = slice %1 {axis = 1, start = S-1}
  %3 = keep_last %1 {axis = 1, rows = 3}
  %4 = full {value = 0.0, shape = [B, 4, 2]}
  %5 = full {value = 0.0, shape = [B, 4]}
  return %2, %1, %3, %4, %5
}
graph @decode(%tokens: i64[B,T], %past: i64[], %key: f32[B,P,4], %near: f32[B,W3,4],
              %conv: f32[B,4,2], %h: f32[B,4]) {
  %0 = weight {name = "embed", type = f32[9,4]}
  %1 = embedding %0, %tokens
  %2 = kv_append %key, %1 {axis = 1}
  %3 = kv_append %near, %1 {axis = 1}
  %4 = keep_last %3 {axis = 1, rows = 3}
  return %1, %2, %4, %conv, %h
}
"""
NAMES = ("logits", "key.out", "near.out", "conv.out", "h.out")


def program(text: str = PROGRAM, names: tuple[str, ...] = NAMES) -> Program:
    read = parse_program(text)
    prefill = dataclasses.replace(read.prefill, output_names=names)
    decode = dataclasses.replace(read.decode, output_names=names)
    return dataclasses.replace(read, prefill=prefill, decode=decode)


def test_a_program_that_is_right() -> None:
    verify(program(), Stage.LOWERED)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("%tokens: i64[B,T], %past: i64[],", "%tokens: i64[B,T],", "HETC-X131"),
        ("@decode(%tokens: i64[B,T]", "@decode(%tokens: i64[B,S]", "HETC-X131"),
        ("@prefill(%tokens: i64[B,S]", "@prefill(%ids: i64[B,S]", "HETC-X131"),
        ("max_context = 64", "max_context = 0", "HETC-X131"),
        ("state key: f32[B,P,4]", "state key: f32[B,P,8]", "HETC-X133"),
        ("state h: f32[B,4]", "state g: f32[B,4]", "HETC-X133"),
        ("{axis = 1, rows = 3}\n  return %1", "{axis = 1, rows = 2}\n  return %1", "HETC-X134"),
        ("%2 = slice %1 {axis = 1, start = S-1}", "%2 = neg %1", "HETC-X134"),
        ('kind = "kv"', 'kind = "cache"', "HETC-X130"),
        ('"kv", axis = 1', '"kv"', "HETC-X130"),
        ('"kv", axis = 1', '"kv", axis = 0', "HETC-X130"),
        ('"kv", axis = 1', '"kv", axis = 7', "HETC-X130"),
        ("keep = 3", "keep = 4", "HETC-X130"),
        ("f32[B,4,2] {kind", "f32[B,4,3] {kind", "HETC-X130"),
        ("%h: f32[B,4])", "%h: f32[B,4], %x: f32[Q])", "HETC-X132"),
    ],
)
def test_a_program_that_is_not(old: str, new: str, code: str) -> None:
    assert old in PROGRAM
    text = PROGRAM.replace(old, new)
    text = text.replace("%ids: i64[B,S]) {", "%ids: i64[B,S]) {\n  %tokens = neg %ids")
    assert code in codes(program(text), Stage.STATEFUL)
    assert code not in codes(program(text), Stage.CANONICAL)


def test_output_names_of_a_program() -> None:
    assert "HETC-X134" in codes(program(names=NAMES[:4]), Stage.STATEFUL)
    twice = StateSpec("key", "kv", parse_type("f32[B,P,4]"), 1)
    right = program()
    doubled = dataclasses.replace(right, states=(twice, twice))
    assert "HETC-X130" in codes(doubled, Stage.STATEFUL)


def test_a_weight_has_one_type_across_a_program() -> None:
    text = PROGRAM.replace("f32[9,4]", "f32[8,4]", 1)
    assert "HETC-X113" in codes(program(text))


def test_costs_are_in_known_sizes() -> None:
    class Odd(Mul):
        def cost(self) -> Any:
            return type(super().cost())(symbol("Q"))

    x = Value(F2, name="x")
    op = Odd(x, 2.0)
    graph = Graph("g", (x,), (op,), op.results)
    assert codes(graph, Stage.STATEFUL) == []
    assert codes(graph, Stage.MARKED) == ["HETC-X140"]
