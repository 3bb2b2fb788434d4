"""The MLIR export parses in LLVM's own bindings, op by op."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from hetc.ir.examples import example
from hetc.ir.graph import Graph
from hetc.ir.mlir import export_mlir
from hetc.ir.op import OPS
from hetc.ir.text import parse
from tests.golden import Golden
from tests.ir.strategies import graphs

ir = pytest.importorskip("torch_mlir.ir", reason="no torch-mlir wheel for this platform")


def read(text: str) -> Any:
    with ir.Context() as context:
        context.allow_unregistered_dialects = True
        module = ir.Module.parse(text)
        assert module.operation.verify()
        return module


def ops_of(module: Any) -> list[Any]:
    (graph,) = [op for op in module.body.operations if op.attributes["sym_name"].value != "layer"]
    return list(graph.regions[0].blocks[0].operations)


@pytest.mark.parametrize("kind", OPS)
def test_every_op_parses(kind: str) -> None:
    graph = example(kind)
    first, returned = ops_of(read(export_mlir(graph)))
    assert first.operation.name == f"hetc.{kind}"
    assert len(first.operands) == len(graph.ops[0].operands)
    assert len(first.results) == len(graph.ops[0].results)
    assert returned.operation.name == "hetc.return"


@settings(max_examples=25)
@given(graphs())
def test_a_random_graph_parses(graph: Graph) -> None:
    assert read(export_mlir(graph))


def test_the_text(golden: Golden) -> None:
    text = """
    graph @layer(%x: f32[B,S,64]) { %0 = rms_norm %x @norm return %0 }
    graph @forward(%x: f32[B,S,64], %m: bool[S]) -> (y: f32[B,S,64]) {
      %0 = call @layer(%x) @layers.0
      %1, %2 = split %0 {axis = -1, sizes = [32, 32]}
      %3 = concat [%2, %1] {axis = -1}
      %4 = mul -inf, %3
      %5 = where %m, 1e-06, 2 {dtype = f8e4m3}
      %6 = weight {name = "a \\"name\\"", type = u8[2]}
      return %4
    }"""
    module = export_mlir(parse(text))
    golden("forward.mlir", module)
    assert read(module)


def test_numbers_arrive_as_they_are() -> None:
    text = "graph @f(%x: f32[2]) { %0 = rms_norm %x {eps = 1e-300, offset = -inf} return %0 }"
    attributes = ops_of(read(export_mlir(parse(text))))[0].attributes
    assert attributes["eps"].value == 1e-300
    assert attributes["offset"].value == float("-inf")
