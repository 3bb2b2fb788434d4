"""Building, rewriting and substituting graphs."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from hetc.ir.compare import first_difference, same_structure
from hetc.ir.dims import symbol
from hetc.ir.graph import Graph, GraphBuilder, rebuild, substitute_dims
from hetc.ir.interpret import interpret
from hetc.ir.op import Op, Value
from hetc.ir.ops.control import Call
from hetc.ir.ops.elementwise import Add, Mul, Neg
from hetc.ir.ops.shape import Split
from hetc.ir.text import parse, print_graph
from hetc.ir.types import F32, TensorType
from hetc.ir.verify import Stage, verify
from tests.ir.strategies import graphs

F2 = TensorType(F32, (2,))


def test_add_places_what_it_reads_first_and_once() -> None:
    builder = GraphBuilder("g")
    x = builder.input("x", F2)
    left, right = Neg(x), Mul(x, 2.0)
    shared = Add(left.result, right.result)
    last = Add(shared.result, shared.result)
    builder.add(last)
    builder.add(right)
    assert builder.ops == [left, right, shared, last]


def test_a_deep_chain_is_placed_without_recursion() -> None:
    value = Value(F2, name="x")
    for _ in range(5000):
        value = Neg(value).result
    builder = GraphBuilder("g")
    assert value.op is not None
    builder.add(value.op)
    assert len(builder.ops) == 5000


@settings(max_examples=30)
@given(graphs())
def test_a_rebuild_that_changes_nothing_only_prunes(graph: Graph) -> None:
    again = rebuild(graph, lambda op: None)
    assert first_difference(graph.prune(), again, locations=True) is None
    assert set(again.ops) <= set(graph.ops)


def test_rebuild_replaces_ops_and_values() -> None:
    graph = parse(
        """graph @f(%x: f32[2], %y: f32[2]) {
          %0 = add %x, %y
          %1 = neg %0
          %2 = mul %1, 1.0
          %3 = sub %2, %x
          return %3
        }"""
    )

    def rewrite(op: Op) -> Op | tuple[Value, ...] | None:
        if isinstance(op, Neg):
            return Mul(Add(op.x, 0.5).result, -1.0)
        if isinstance(op, Mul) and op.y == 1.0:
            assert isinstance(op.x, Value)
            return (op.x,)
        return None

    expected = parse(
        """graph @f(%x: f32[2], %y: f32[2]) {
          %0 = add %x, %y
          %1 = add %0, 0.5
          %2 = mul %1, -1.0
          %3 = sub %2, %x
          return %3
        }"""
    )
    assert print_graph(rebuild(graph, rewrite)) == print_graph(expected)


def test_rebuild_takes_new_inputs() -> None:
    graph = parse("graph @f(%x: f32[2]) { %0 = neg %x return %0 }")
    wide = Value(TensorType(F32, (3,)), name="x")
    again = rebuild(graph, lambda op: None, inputs=(wide,), name="g")
    assert again.outputs[0].type == wide.type
    assert again.name == "g"
    verify(again)


def test_prune_keeps_an_op_for_any_of_its_results() -> None:
    x = Value(TensorType(F32, (4,)), name="x")
    split, dead = Split(x, 0, (1, 3)), Neg(x)
    graph = Graph("g", (x,), (split, dead), (split.results[1],))
    assert graph.prune().ops == (split,)
    assert graph.prune().prune() is not graph


def test_users_in_order() -> None:
    graph = parse("graph @f(%x: f32[2]) { %0 = neg %x %1 = add %0, %0 %2 = mul %0, %x return %2 }")
    neg, add, mul = graph.ops
    assert graph.users()[neg.result] == [add, mul]
    assert graph.users()[graph.inputs[0]] == [neg, mul]


def test_sizes_are_substituted_in_types_attributes_literals_and_callees() -> None:
    text = """
    graph @layer(%x: f32[B,S,4]) {
      %0 = reshape %x {shape = [B*S, 4]}
      %1 = mul %0, S
      return %1
    }
    graph @f(%x: f32[B,S,4]) {
      %0 = call @layer(%x)
      %1 = call @layer(%x)
      %2 = add %0, %1
      return %2
    }"""
    graph = parse(text)
    new = substitute_dims(graph, {"S": symbol("T"), "B": 2}, name="decode")
    verify(new, Stage.CANONICAL)
    expected = text.replace("S", "T").replace("B*T", "2*T").replace("B", "2")
    assert same_structure(new, parse(expected))
    assert new.name == "decode"
    (callee,) = new.subgraphs()
    assert all(isinstance(op, Call) and op.callee is callee for op in new.ops[:2])
    x = np.ones((2, 3, 4), np.float32)
    assert (interpret(new, [x])[0] == interpret(graph, [x])[0]).all()


def test_differences_are_named() -> None:
    one = parse("graph @f(%x: f32[2]) { %0 = mul %x, 1 return %0 } ")
    two = parse("graph @f(%x: f32[2]) { %0 = mul %x, 1.0 return %0 }")
    assert "differ in y: 1 and 1.0" in str(first_difference(one, two))
    other = parse("graph @f(%x: f32[2]) { %0 = neg %x return %0 }")
    assert "is not" in str(first_difference(one, other))
    assert "inputs" in str(first_difference(one, parse("graph @f() { return }")))
    swapped = parse("graph @f(%x: f32[2]) { %0 = mul %x, 1 return %x }")
    assert "return different values" in str(first_difference(one, swapped))
    located = parse("graph @f(%x: f32[2]) { %0 = mul %x, 1 @a return %0 }")
    assert same_structure(one, located)
    assert "locations" in str(first_difference(one, located, locations=True))
