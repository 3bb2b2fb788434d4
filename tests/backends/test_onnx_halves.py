"""Whole halves: prefill, then decode, run by ONNX Runtime, against `forward` in the interpreter."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from hetc.backends.onnx import OnnxBackend, emit_onnx
from hetc.ir.graph import Graph, GraphBuilder, Program
from hetc.ir.interpret import interpret
from hetc.ir.op import Op
from hetc.ir.ops.control import Call
from hetc.ir.types import BF16, F32, Array
from hetc.passes.synthesize_state import synthesize_state
from tests.backends.llama import Llama
from tests.backends.runs import OnnxRun
from tests.golden import Golden

onnx = pytest.importorskip("onnx")
MODELS = {
    "causal": Llama(),
    "window": Llama(window=4),
    "one head": Llama(groups=1, layers=1),
    "bf16": Llama(dtype=BF16),
}


@cache
def program(name: str) -> tuple[Program, dict[str, Array]]:
    """The program of a model and its weights."""
    graph = MODELS[name].graph()
    weights = MODELS[name].weights(graph)
    return synthesize_state(graph, weights.__getitem__, 64), weights


def run_halves(
    halves: tuple[Graph, Graph], weights: dict[str, Array], tokens: Array, splits: list[int]
) -> Array:
    """The logits of the last prompt token and of all tokens after it, run in pieces."""
    prefill, decode = (OnnxRun(half, weights) for half in halves)
    logits, *state = prefill([tokens[:, : splits[0]]])
    rows = [logits]
    for start, stop in pairwise(splits):
        inputs = [tokens[:, start:stop], *([np.array(start)] * takes_past(halves[1])), *state]
        logits, *state = decode(inputs)
        rows.append(logits)
    return np.concatenate(rows, axis=1)


def takes_past(graph: Graph) -> bool:
    return any(value.name == "past" for value in graph.inputs)


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("splits", [[1, 2, 3, 4, 9], [5, 6, 7, 8, 9], [7, 9], [3, 8, 9]])
def test_prefill_then_decode_is_forward(name: str, splits: list[int]) -> None:
    made, weights = program(name)
    tokens = np.random.default_rng(1).integers(0, MODELS[name].vocab, (2, 9))
    found = run_halves((made.prefill, made.decode), weights, tokens, splits)
    (expected,) = interpret(made.forward, [tokens], weights.__getitem__)
    assert found.dtype == np.float32
    tolerance = 1e-5 if MODELS[name].dtype is F32 else 0.1
    np.testing.assert_allclose(found, expected[:, splits[0] - 1 :], atol=tolerance)


def test_state_crosses_in_the_type_of_the_graph() -> None:
    made, _ = program("bf16")
    prefill, decode = (onnx.load_from_string(emit_onnx(g)) for g in (made.prefill, made.decode))
    bf16, f32 = onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT
    states = {spec.name: bf16 for spec in made.states}
    out = {"logits": f32} | {f"{name}.out": bf16 for name in states}

    def types(values: object) -> dict[str, int]:
        return {v.name: v.type.tensor_type.elem_type for v in values}  # type: ignore[attr-defined]

    assert types(prefill.graph.output) == types(decode.graph.output) == out
    inputs = types(decode.graph.input)
    assert {name: inputs[name] for name in states} == states
    # Nothing but the border is narrow: the weights are supplied in f32.
    assert {weight.data_type for weight in decode.graph.initializer} <= {
        f32,
        onnx.TensorProto.INT64,
    }


def test_weights_are_outside_each_at_its_own_place() -> None:
    made, weights = program("causal")
    model = onnx.load_from_string(emit_onnx(made.decode))
    outside = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    }
    assert outside == {name: {"location": name} for name in weights}


def test_the_same_graph_gives_the_same_bytes() -> None:
    made, _ = program("causal")
    again = synthesize_state(MODELS["causal"].graph(), program("causal")[1].__getitem__, 64)
    assert emit_onnx(made.decode) == emit_onnx(again.decode)


def test_calls_are_inlined() -> None:
    made, weights = program("causal")
    called = calls_whole(made.decode)
    assert OnnxBackend().validate(called) == []
    assert emit_onnx(called).count(b"Softmax") == emit_onnx(made.decode).count(b"Softmax")
    tokens = np.random.default_rng(2).integers(0, 61, (1, 6))
    halves = (calls_whole(made.prefill), called)
    expected = run_halves((made.prefill, made.decode), weights, tokens, [4, 5, 6])
    np.testing.assert_array_equal(run_halves(halves, weights, tokens, [4, 5, 6]), expected)


def calls_whole(graph: Graph) -> Graph:
    """A graph that only calls `graph`."""
    builder = GraphBuilder(f"{graph.name}_called")
    inputs = tuple(builder.input(value.name, value.type) for value in graph.inputs)
    call: Op = Call(graph, inputs)
    builder.add(call)
    return builder.finish(call.results, graph.output_names)


def test_what_layers_share_is_computed_once() -> None:
    made, _ = program("causal")
    model = onnx.load_from_string(emit_onnx(made.decode))
    kinds = [node.op_type for node in model.graph.node]
    layers = MODELS["causal"].layers
    assert kinds.count("Softmax") == layers
    # The rotary table, its turned sine and the mask.
    assert [kinds.count(kind) for kind in ("Cos", "Sin", "GreaterOrEqual", "Tile")] == [1] * 4


def test_one_layer_reads_as_expected(golden: Golden) -> None:
    model = Llama(layers=1)
    graph = model.graph()
    made = synthesize_state(graph, model.weights(graph).__getitem__, 64)
    for half in (made.prefill, made.decode):
        proto = onnx.load_from_string(emit_onnx(half)).graph
        lines = [
            f"{', '.join(node.output)} = {node.op_type}({', '.join(node.input)})"
            for node in proto.node
        ]
        golden(f"onnx_{half.name}.txt", "\n".join(lines))
