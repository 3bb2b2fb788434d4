"""Ops as data: operands, changes, evaluated attributes, registration."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from hetc.errors import IRError
from hetc.ir.dims import symbol
from hetc.ir.op import Op, Value, op
from hetc.ir.ops.attention import Attention
from hetc.ir.ops.elementwise import Add
from hetc.ir.ops.shape import Concat, Reshape
from hetc.ir.types import F32, TensorType

B, S = symbol("B"), symbol("S")
X = Value(TensorType(F32, (B, S, 4)), name="x")
Y = Value(TensorType(F32, (B, S, 4)), name="y")


def test_operands_in_field_order() -> None:
    assert Add(X, 1.0).operands == (X,)
    assert Concat((X, Y, X), 0).operands == (X, Y, X)
    q, k, v, mask = (Value(TensorType(F32, (B, 2, S, S)), name=n) for n in "qkvm")
    q = Value(TensorType(F32, (B, 2, S, 8)), name="q")
    k = v = Value(TensorType(F32, (B, 2, S, 8)), name="k")
    assert Attention(q, k, v, mask=mask).operands == (q, k, v, mask)


def test_ops_are_frozen_and_compared_by_identity() -> None:
    made = Add(X, Y)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.x = Y  # type: ignore[misc]
    assert made != Add(X, Y)
    assert len({made, Add(X, Y)}) == 2


def test_replace_makes_new_results_and_keeps_the_rest() -> None:
    made = Reshape(X, (B * S, 4), loc="here")
    other = made.replace(shape=(4, B * S))
    assert other.loc == "here"
    assert str(other.result.type) == "f32[4,B*S]"
    assert other.result is not made.result
    assert made.result.op is made
    with pytest.raises(TypeError):
        made.replace(shap=(4,))


def test_map_operands_keeps_an_op_that_does_not_change() -> None:
    made = Concat((X, Y), 0)
    assert made.map_operands(lambda value: value) is made
    swapped = made.map_operands(lambda value: Y if value is X else X)
    assert swapped.operands == (Y, X)


def test_at_gives_numbers_and_keeps_results() -> None:
    made = Reshape(X, (B * S, 4))
    bound = made.at({"B": 2, "S": 3})
    assert isinstance(bound, Reshape)
    assert bound.shape == (6, 4)
    assert bound.results is made.results
    assert made.shape == (B * S, 4)
    assert Add(X, Y).at({}).operands == (X, Y)


def test_map_dims_names_only_what_changes() -> None:
    assert Reshape(X, (B * S, 4)).map_dims({"S": 3}) == {"shape": (3 * B, 4)}
    assert Reshape(X, (B * S, 4)).map_dims({"T": 3}) == {}
    assert Add(X, S).map_dims({"S": 3}) == {"y": 3}


def test_a_misfit_names_op_place_rule_and_types() -> None:
    with pytest.raises(IRError) as caught:
        Add(X, Value(TensorType(F32, (3,)), name="z"), loc="layers.0")
    assert str(caught.value).splitlines() == [
        "error[HETC-X010]: add: operands do not broadcast",
        "  at layers.0",
        "  found: operands f32[B,S,4], f32[3]",
    ]


def test_a_kind_is_registered_once() -> None:
    with pytest.raises(IRError, match="HETC-X011"):

        @op("add")
        class Again(Op):
            x: Value


def test_annotations_must_be_text() -> None:
    code = (
        "from hetc.ir.op import Op, Value, op\n"
        "try:\n"
        "    op('odd')(type('Odd', (Op,), {'__annotations__': {'x': Value}}))\n"
        "except Exception as error:\n"
        "    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HETC-X011" in ran.stdout
    assert "from __future__ import annotations" in ran.stdout


def test_ops_describe_themselves() -> None:
    assert repr(Add(X, 2.0, loc="a.b")) == "<add(f32[B,S,4]) -> f32[B,S,4] @a.b>"
    assert repr(X) == "<x: f32[B,S,4]>"
