"""Grouped products in the interpreter: the IR's `expert_linear`, and gates behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetc.backends.triton import expert_linear
from hetc.backends.triton.expert_linear import ExpertLinearSpec
from hetc.backends.triton.linear import LinearSpec, Quantized
from hetc.bundle.launches import BufferRef
from hetc.ir.op import Value
from hetc.ir.ops.linear import ExpertLinear
from hetc.ir.ops.quant import dequantized, unpacked4
from hetc.ir.types import DTYPES, I8, U8, Array, TensorType, dtype_of
from tests.backends.triton.interpreting import Interpreter
from tests.backends.triton.launching import run_launch
from tests.backends.triton.linear_cases import matrix
from tests.backends.triton.row_oracle import FUNCTIONS
from tests.backends.triton.tolerance import assert_close, normal


def slots_in_order(ids: Array, experts: int) -> tuple[Array, Array]:
    """What `routing` makes of `ids` [rows, per_token]."""
    flat = ids.reshape(-1)
    ends = np.cumsum(np.bincount(flat, minlength=experts))
    return np.argsort(flat, kind="stable").astype(np.int32), ends.astype(np.int32)


def expected(spec: ExpertLinearSpec, arrays: dict[str, Array], ids: Array) -> Array:
    """The IR's `expert_linear` of a row for each slot, in f32, and its gate."""
    x = arrays["x"].astype(np.float32)
    x = np.repeat(x, spec.per_token, axis=0) if spec.x_of == "tokens" else x
    arrays = {name: arrays[name].astype(np.float32) for name in arrays}
    inputs = [x, arrays["weight"], ids.reshape(-1), *([arrays["bias"]] if spec.bias else [])]
    values = [Value(TensorType(dtype_of(array), array.shape)) for array in inputs]
    bias = values[3] if spec.bias else None
    op = ExpertLinear(values[0], values[1], values[2], bias, transposed=spec.transposed)
    product = op.semantics(*inputs)
    if not spec.gated:
        return activated(spec.activation, product) if spec.activation else product
    gate, up = product[:, ::2], product[:, 1::2]
    if spec.gated == "halves":
        gate, up = np.split(product, 2, axis=1)
    if spec.limit is not None:
        gate, up = np.minimum(gate, spec.limit), np.clip(up, -spec.limit, spec.limit)
    return activated(spec.activation, gate) * (up + spec.up_offset)


def activated(activation: str, x: Array) -> Array:
    if activation == "quick_gelu":
        # A sigmoid that does not overflow.
        return np.asarray(x / 2 * (1 + np.tanh(0.851 * x)))
    return np.asarray(FUNCTIONS[activation](x))


def dequantized_rows(spec: ExpertLinearSpec, arrays: dict[str, Array]) -> Array:
    """The rows of all matrices [experts * n, k]."""
    form, numbers = spec.quantized, arrays["weight"]
    if form is None:
        return numbers
    if form.packed:
        numbers = unpacked4(numbers, I8 if form.stored == "i4" else U8)
    parts = [arrays.get(f"weight_{part}") for part in ("zero", "shift")]
    return dequantized(numbers, arrays["weight_scale"], *parts)


def check(interpreter: Interpreter, spec: ExpertLinearSpec, ids: Array, config: int) -> None:
    assert expert_linear.supports(spec) is None
    random = np.random.default_rng(spec.n)
    inputs = ids.shape[0] if spec.x_of == "tokens" else ids.size
    arrays = {"x": normal(random, (inputs, spec.k), spec.element)}
    rows = LinearSpec(spec.element, spec.experts * spec.n, spec.k, weight=spec.quantized)
    arrays |= matrix(random, "weight", rows)
    plain = dequantized_rows(spec, arrays).reshape(spec.experts, spec.n, spec.k)
    if spec.transposed:
        plain = plain.swapaxes(1, 2)
        arrays["weight"] = np.ascontiguousarray(plain)
    if spec.bias:
        arrays["bias"] = normal(random, (spec.experts, spec.n), spec.element)
    wanted = expected(spec, arrays | {"weight": plain}, ids)
    arrays["order"], arrays["ends"] = slots_in_order(ids, spec.experts)
    arrays["out"] = np.zeros(wanted.shape, DTYPES[spec.element].numpy)
    kernel = expert_linear.kernel(spec)
    operands = {name: BufferRef(name=name) for name in arrays}
    launch = expert_linear.launch(spec, kernel.id, rows="M", ops=(), **operands)
    chosen = kernel.configs[config % len(kernel.configs)]
    run_launch(interpreter, kernel, launch, arrays, {"M": len(ids)}, chosen)
    assert_close(arrays["out"], wanted, spec.element)


@st.composite
def specs(draw: st.DrawFn) -> ExpertLinearSpec:
    gates: list[Literal["", "halves", "interleaved"]] = ["", "halves", "interleaved"]
    gated = draw(st.sampled_from(gates))
    return ExpertLinearSpec(
        element=draw(st.sampled_from(["f32", "f16", "bf16"])),
        experts=draw(st.integers(1, 5)),
        n=2 * draw(st.integers(1, 70)),
        k=draw(st.integers(1, 150)),
        per_token=draw(st.integers(1, 3)),
        x_of=draw(st.sampled_from(["tokens", "slots"])),
        transposed=draw(st.booleans()),
        bias=draw(st.booleans()),
        gated=gated,
        activation=draw(st.sampled_from(["silu", "gelu_tanh"] if gated else ["", "relu"])),
    )


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(specs(), st.integers(1, 40), st.integers(0, 100), st.data())
def test_expert_linear(
    interpreter: Interpreter, spec: ExpertLinearSpec, rows: int, config: int, data: st.DataObject
) -> None:
    # Of some experts: the others are empty.
    used = data.draw(st.lists(st.integers(0, spec.experts - 1), min_size=1, unique=True))
    ids = np.random.default_rng(rows).choice(used, (rows, spec.per_token)).astype(np.int32)
    check(interpreter, spec, ids, config)


GPT_OSS = ExpertLinearSpec(
    element="bf16",
    experts=4,
    n=96,
    k=32,
    per_token=2,
    transposed=True,
    bias=True,
    gated="interleaved",
    activation="quick_gelu",
    limit=1.0,
    up_offset=1.0,
)


@pytest.mark.parametrize(
    "spec", [GPT_OSS, replace(GPT_OSS, transposed=False, gated="halves"), replace(GPT_OSS, n=64)]
)
def test_gates_with_a_limit(interpreter: Interpreter, spec: ExpertLinearSpec) -> None:
    ids = np.random.default_rng(1).integers(0, spec.experts, (150, 2)).astype(np.int32)
    check(interpreter, spec, ids, 0)


@pytest.mark.parametrize(
    "form",
    [
        Quantized("i8", 32, "f32"),
        Quantized("i4", 16, "f16"),
        Quantized("u4", 96, "bf16", zero="u8", shift="f32"),
    ],
    ids=lambda form: form.stored,
)
@pytest.mark.parametrize("gated", ["halves", "interleaved"])
def test_quantized_experts(
    interpreter: Interpreter, form: Quantized, gated: Literal["halves", "interleaved"]
) -> None:
    # In bf16 the rounded matrices would go through the gate.
    spec = replace(
        GPT_OSS, element="f32", transposed=False, gated=gated, k=96, quantized=form, limit=None
    )
    ids = np.random.default_rng(2).integers(1, spec.experts, (50, 2)).astype(np.int32)
    for config in (0, 5, 9):
        check(interpreter, spec, ids, config)
    check(interpreter, replace(spec, element="bf16", gated="", activation=""), ids, 0)


def test_work_counts_the_tiles_that_hold_slots() -> None:
    kernel = expert_linear.kernel(replace(GPT_OSS, experts=128, per_token=8, n=2048, k=1024))
    config = kernel.configs[0]
    assert config.constants["BLOCK_M"] == 64
    columns = 1024 // config.constants["BLOCK_N"]
    # One token has 8 experts, 64 tokens 4 slots of each, 2,048 tokens 128 slots of each.
    blocks = [kernel.work.blocks(config, rows) // columns for rows in (1, 64, 2048)]
    assert blocks == [8, 128, 256]


def test_what_is_not_supported() -> None:
    refused = {
        replace(GPT_OSS, n=97): "no halves",
        replace(GPT_OSS, gated=""): "only gates",
        replace(GPT_OSS, quantized=Quantized("i8", 32, "f32")): "transposed",
        replace(GPT_OSS, transposed=False, k=33, quantized=Quantized("i4")): "two rows",
    }
    for spec, reason in refused.items():
        assert reason in (expert_linear.supports(spec) or "")
