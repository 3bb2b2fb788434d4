"""Another float type for weights and data; positions keep theirs."""

from __future__ import annotations

import pytest

from hetc.ir.interpret import interpret
from hetc.ir.op import Value
from hetc.ir.ops.attention import Attention, Rope
from hetc.ir.ops.binary import Add, Mul
from hetc.ir.ops.shape import Reshape, Slice
from hetc.ir.ops.source import Weight
from hetc.ir.ops.unary import Cos, Sin
from hetc.ir.text import parse
from hetc.ir.types import BF16, F16, F32, F64, DType, TensorType
from hetc.ir.verify import verify
from hetc.passes.retype import retype
from hetc.passes.simplify import simplify
from tests.passes.adversaries import POSITION, Mixer, attend, heads, model
from tests.passes.blocks import S, random_weights, weight
from tests.passes.harness import assert_close, random_input


def rotated(x: Value, tokens: Value) -> Value:
    angles = Mul(Reshape(POSITION, (S, 1)).result, weight("rates", 4)).result
    turned = Rope(heads(x, "q"), Cos(angles).result, Sin(angles).result).result
    return attend(x, q=turned)


def table_read_twice(x: Value, tokens: Value) -> Value:
    # The first row of the embedding is added to every token: a positional value made of a weight.
    table = Weight("embed", TensorType(F32, (13, 8))).result
    return Add(attend(x), Add(Slice(table, 0, 0, 1).result, 1.0).result).result


MODELS: dict[str, Mixer] = {"rope": rotated, "table": table_read_twice}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [BF16, F16, F64])
def test_a_retyped_model_is_the_model_rounded(name: str, dtype: DType) -> None:
    before = simplify(model(MODELS[name]))
    after = simplify(retype(before, F32, dtype))
    assert after.outputs[0].dtype is dtype
    tokens = random_input(before.inputs[0], {"B": 2, "S": 6}, 0)
    exact = random_weights(before)
    types = {op.name: op.type.dtype.numpy for op in after.ops if isinstance(op, Weight)}
    (expected,) = interpret(before, [tokens], exact)
    (found,) = interpret(after, [tokens], lambda weight: exact(weight).astype(types[weight]))
    assert_close(expected, found, 5e-2 if dtype.bits == 16 else 1e-5)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [BF16, F16, F64])
def test_a_weight_has_one_type(name: str, dtype: DType) -> None:
    types: dict[str, set[str]] = {}
    for op in simplify(retype(simplify(model(MODELS[name])), F32, dtype)).ops:
        if isinstance(op, Weight):
            types.setdefault(op.name, set()).add(op.type.dtype.name)
    assert all(len(found) == 1 for found in types.values()), types


def test_data_gets_the_new_type_and_angles_stay() -> None:
    ops = retype(model(rotated), F32, BF16).ops
    (attention,) = (op for op in ops if isinstance(op, Attention))
    assert {value.dtype for value in (attention.q, attention.k, attention.v)} == {BF16}
    (cosine,) = (op for op in ops if isinstance(op, Cos))
    assert (cosine.x.dtype, cosine.result.dtype) == (F32, F32)


def test_bits_stay_those_of_the_type_that_had_them() -> None:
    graph = parse(
        "graph @g(%x: f32[S,4], %y: f32[4]) {"
        " %0 = add %x, %y %1 = bitcast %0 {dtype = i32} %2 = and %1, 255"
        " %3 = bitcast %2 {dtype = f32} %4 = mul %3, %y return %4 }"
    )
    narrow = retype(graph, F32, BF16)
    kinds = [op.kind for op in narrow.ops]
    assert kinds == ["add", "cast", "bitcast", "and", "bitcast", "cast", "mul"]
    assert narrow.outputs[0].dtype is BF16
    verify(narrow)
