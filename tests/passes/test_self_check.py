"""The self-check runs models of any mixture of float types, and finds a wrong half."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hetc.errors import CheckFailed
from hetc.ir.graph import Graph, Program
from hetc.ir.op import Value
from hetc.ir.ops.binary import Add, Mul
from hetc.ir.ops.linear import Linear
from hetc.ir.ops.reduce import Mean
from hetc.ir.ops.source import Weight
from hetc.ir.ops.unary import Cast
from hetc.ir.types import BF16, F16, F32, F64, DType, TensorType
from hetc.passes.prove_causal import prove_causal
from hetc.passes.retype import float_dtype, retype
from hetc.passes.self_check import self_check
from hetc.passes.synthesize_state import synthesize_state
from tests.passes.adversaries import CONTEXT, VOCABULARY, WIDTH, attend, model
from tests.passes.blocks import random_weights


def program(forward: Graph) -> Program:
    weights = random_weights(forward)
    return synthesize_state(prove_causal(forward, weights, CONTEXT).graph, weights, CONTEXT)


def mixed(x: Value, dtype: DType) -> Value:
    """Attention in f32 and a projection in `dtype`."""
    matrix = Weight("narrow", TensorType(dtype, (WIDTH, WIDTH))).result
    projected = Linear(Cast(attend(x), dtype).result, matrix).result
    return Add(x, Cast(projected, F32).result).result


@pytest.mark.parametrize("dtype", [BF16, F16, F64])
def test_a_minority_of_another_type_is_checked(dtype: DType) -> None:
    forward = model(lambda x, tokens: mixed(x, dtype))
    assert float_dtype(forward) is F32
    checked = self_check(program(forward), random_weights(forward), VOCABULARY)
    assert checked.max_abs_error < 1e-3


@pytest.mark.parametrize("new", [BF16, F16, F64])
def test_a_retyped_model_is_checked(new: DType) -> None:
    forward = retype(model(lambda x, tokens: mixed(x, BF16)), F32, new)
    assert float_dtype(forward) is new
    checked = self_check(program(forward), random_weights(forward), VOCABULARY)
    assert checked.decode_logits.shape == (4, VOCABULARY)


def test_a_wrong_half_is_found() -> None:
    right = program(model(lambda x, tokens: attend(x)))
    logits, *states = right.decode.outputs
    doubled = Mul(logits, 2.0)
    broken = replace(
        right,
        decode=replace(
            right.decode, ops=(*right.decode.ops, doubled), outputs=(doubled.result, *states)
        ),
    )
    with pytest.raises(CheckFailed, match="HETC-V001"):
        self_check(broken, random_weights(right.forward), VOCABULARY)


def test_a_mean_over_the_batch_is_found() -> None:
    forward = model(lambda x, tokens: Add(x, Mean(x, (0,), True).result).result)
    with pytest.raises(CheckFailed, match="HETC-V003"):
        self_check(program(forward), random_weights(forward), VOCABULARY)
