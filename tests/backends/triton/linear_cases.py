"""Operands of matrix products, and what comes out of them by the IR's ops in f32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from hetc.backends.triton.linear import (
    TURN,
    HeadsSpec,
    LinearSpec,
    NormSpec,
    parameters,
)
from hetc.ir.op import Op, Value
from hetc.ir.ops.attention import Rope
from hetc.ir.ops.norm import RMSNorm
from hetc.ir.ops.quant import dequantized, unpacked4
from hetc.ir.ops.unary import Gelu, Relu, Sigmoid, Silu, Tanh
from hetc.ir.types import DTYPES, F32, I8, U8, Array, TensorType
from tests.backends.triton.tolerance import normal

_ACTIVATIONS: dict[str, Callable[[Value], Op]] = {
    "silu": Silu, "gelu": Gelu, "gelu_tanh": lambda x: Gelu(x, tanh=True), "sigmoid": Sigmoid,
    "tanh": Tanh, "relu": Relu,
}  # fmt: skip


WEIGHTS = ("gate_weight", "up_weight", "weight")


def operands(spec: LinearSpec, lengths: tuple[int, ...], seed: int = 0) -> dict[str, Array]:
    """What the kernel takes for sequences of `lengths`, by name, without the number of rows."""
    draw, rows = np.random.default_rng(seed), sum(lengths)
    out = spec.out_element or spec.element
    found: dict[str, Array] = {}
    for name in (parameter.name for parameter in parameters(spec)[:-1]):
        match name:
            case "x":
                found[name] = normal(draw, (rows, spec.k), spec.element)
            case "norm_weight":
                assert spec.norm is not None
                found[name] = normal(draw, (spec.k,), spec.norm.weight)
            case "weight" | "gate_weight" | "up_weight":
                found |= matrix(draw, name, spec)
            case "bias" | "gate_bias" | "up_bias":
                found[name] = normal(draw, (spec.n,), spec.element)
            case "residual":
                found[name] = normal(draw, (rows, spec.n), out)
            case "out":
                found[name] = np.zeros((rows, spec.n), DTYPES[out].numpy)
    if spec.heads is not None:
        found |= _of_heads(draw, spec.heads, lengths, DTYPES[out].numpy)
    return {parameter.name: found[parameter.name] for parameter in parameters(spec)[:-1]}


def matrix(draw: np.random.Generator, name: str, spec: LinearSpec) -> dict[str, Array]:
    """A matrix [n, k] and what its numbers are scaled by."""
    if spec.weight is None:
        numbers = normal(draw, (_rows(spec), spec.k), "f32") / np.sqrt(spec.k)
        return {name: numbers.astype(DTYPES[spec.element].numpy)}
    form, groups = spec.weight, (_rows(spec), spec.k // (spec.weight.group or spec.k))
    if form.stored == "f8e4m3":
        stored = normal(draw, (_rows(spec), spec.k), "f32").astype(ml_dtypes.float8_e4m3fn)
    else:
        columns = spec.k // 2 if form.packed else spec.k
        stored = draw.integers(0, 256, (_rows(spec), columns)).astype(np.uint8)
        stored = stored.view(np.int8) if form.stored == "i8" else stored
    found: dict[str, Array] = {name: stored}
    if form.scale:
        found[f"{name}_scale"] = normal(draw, groups, form.scale) / 64
    if form.zero:
        found[f"{name}_zero"] = draw.integers(0, 16, groups).astype(DTYPES[form.zero].numpy)
    if form.shift:
        found[f"{name}_shift"] = normal(draw, groups, form.shift)
    return found


def _rows(spec: LinearSpec) -> int:
    """Rows of a matrix."""
    return 2 * spec.n if spec.takes_turns else spec.n


def _of_heads(
    draw: np.random.Generator, heads: HeadsSpec, lengths: tuple[int, ...], out: np.dtype[Any]
) -> dict[str, Array]:
    rows, longest, half = sum(lengths), max(lengths), heads.rotary // 2
    angles = draw.uniform(0, 7, (longest, heads.rotary)).astype(np.float32)
    if heads.equal_halves and heads.interleaved:
        angles[:, 1::2] = angles[:, ::2]
    elif heads.equal_halves:
        angles[:, half:] = angles[:, :half]
    table = DTYPES[heads.table].numpy
    norm = heads.norm.weight if heads.norm is not None else ""
    return {
        "query_norm": normal(draw, (heads.width,), norm or "f32"),
        "key_norm": normal(draw, (heads.width,), norm or "f32"),
        "cos": np.cos(angles).astype(table),
        "sin": np.sin(angles).astype(table),
        "positions": np.concatenate([np.arange(n, dtype=np.int32) for n in lengths]),
        "sequences": np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
        "starts": np.cumsum([0, *lengths], dtype=np.int32),
        "query": np.zeros((rows, heads.heads * heads.width), out),
        "key": np.zeros(rows * heads.groups * heads.width, out),
        "value": np.zeros(rows * heads.groups * heads.width, out),
    }


def expected(spec: LinearSpec, given: dict[str, Array]) -> dict[str, Array]:
    """What the kernel writes, by name, in f32."""
    wide = {name: np.asarray(x, np.float32) for name, x in given.items()}
    x = wide["x"] if spec.norm is None else _norm(spec.norm, wide["x"], wide.get("norm_weight"))
    weights = [_plain(spec, name, given) for name in WEIGHTS if name in given]
    if spec.takes_turns:
        turns = weights[0].reshape(-1, 2, TURN, spec.k)
        weights = [turns[:, half].reshape(spec.n, spec.k) for half in range(2)]
    biases = [wide.get(name.replace("weight", "bias")) for name in WEIGHTS]
    biases = biases[:2] if spec.gated else biases[2:]
    products = [_product(spec, x, *each) for each in zip(weights, biases, strict=True)]
    if spec.heads is not None:
        return _split(spec.heads, products[0], wide)
    result = products[0]
    if spec.activation == "quick_gelu":
        result = result * _activated("sigmoid", 1.702 * result)
    elif spec.activation == "relu_squared":
        result = np.square(_activated("relu", result))
    elif spec.activation:
        result = _activated(spec.activation, result)
    if spec.gated:
        result = result * products[1]
    if spec.softcap is not None:
        result = np.tanh(result / spec.softcap) * spec.softcap
    return {"out": result + wide["residual"] if spec.residual else result}


def _product(spec: LinearSpec, x: Array, weight: Array, bias: Array | None) -> Array:
    result: Array = x @ weight.T
    return (result if bias is None else result + bias) * np.float32(spec.scale)


def _plain(spec: LinearSpec, name: str, given: dict[str, Array]) -> Array:
    form = spec.weight
    if form is None:
        return given[name].astype(np.float32)
    numbers = given[name]
    if form.packed:
        numbers = unpacked4(numbers, I8 if form.stored == "i4" else U8)
    if not form.group:
        return numbers.astype(np.float32)
    parts = (given.get(f"{name}_{part}") for part in ("scale", "zero", "shift"))
    scale, zero, shift = parts
    assert scale is not None
    return dequantized(numbers, scale, zero, shift)


def _value(x: Array) -> Value:
    return Value(TensorType(F32, x.shape))


def _norm(norm: NormSpec, x: Array, weight: Array | None) -> Array:
    scale = None if weight is None else _value(weight)
    return RMSNorm(_value(x), scale, eps=norm.eps, offset=norm.offset).semantics(x, weight)


def _activated(activation: str, x: Array) -> Array:
    op = _ACTIVATIONS[activation](_value(x))
    result = op.semantics(x)
    assert isinstance(result, np.ndarray)
    return result


def _split(heads: HeadsSpec, product: Array, wide: dict[str, Array]) -> dict[str, Array]:
    """Rows of queries, and keys and values as states behind each other."""
    rows, counts = len(product), (heads.heads, heads.groups, heads.groups)
    columns = product.reshape(rows, sum(counts), heads.width)
    parts = dict(
        zip(("query", "key", "value"), np.split(columns, np.cumsum(counts[:2]), 1), strict=True)
    )
    positions = wide["positions"].astype(np.int32) if "positions" in wide else None
    for name in ("query", "key"):
        x = parts[name]
        if heads.norm is not None:
            x = _norm(heads.norm, x, wide.get(f"{name}_norm"))
        if heads.rotary:
            assert positions is not None
            cos, sin = (wide[table][positions][:, None] for table in ("cos", "sin"))
            op = Rope(_value(x), _value(cos), _value(sin), interleaved=heads.interleaved)
            x = op.semantics(x, cos, sin)
        parts[name] = x
    found = {"query": parts["query"].reshape(rows, -1)}
    if heads.groups:
        starts = wide["starts"].astype(np.int32)
        for name in ("key", "value"):
            states = np.split(parts[name], starts[1:-1])
            found[name] = np.concatenate([state.swapaxes(0, 1).ravel() for state in states])
    return found
