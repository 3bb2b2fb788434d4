"""Graphs of real architectures: right at every stage, through the text form, into MLIR."""

from __future__ import annotations

import pytest

from hetc.frontends.torch_export import import_exported
from hetc.ir.compare import first_difference
from hetc.ir.mlir import export_mlir
from hetc.ir.text import parse, parse_program, print_graph, print_program
from hetc.ir.types import Array
from hetc.ir.verify import Stage, verify
from hetc.passes.canonicalize import canonicalize
from hetc.passes.outline_layers import outline_layers
from hetc.passes.prove_causal import prove_causal
from hetc.passes.synthesize_state import synthesize_state
from tests.frontends.torch_models import export, tiny
from tests.ir.test_mlir import read


@pytest.mark.parametrize(("family", "attention"), [("mistral", "sdpa"), ("gpt_oss", "eager")])
def test_a_model_from_import_to_two_halves(family: str, attention: str) -> None:
    imported = import_exported(export(tiny(family, attention)))
    verify(imported.graph)
    again = parse(print_graph(imported.graph))
    assert first_difference(imported.graph, again, locations=True) is None

    def weights(name: str) -> Array:
        return imported.weights[name].load()

    graph = canonicalize(imported.graph)
    verify(graph, Stage.CANONICAL)
    program = synthesize_state(prove_causal(graph, weights, 64).graph, weights, 64)
    verify(program, Stage.MARKED)
    text = print_program(program)
    copy = parse_program(text)
    assert print_program(copy) == text
    assert first_difference(program.decode, copy.decode, locations=True) is None
    assert read(export_mlir(program))

    outlined = outline_layers(program.decode)
    verify(outlined, Stage.MARKED)
    assert first_difference(outlined, parse(print_graph(outlined)), locations=True) is None
