"""Attention in Triton's interpreter, against the IR's op on each sequence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetc.backends.triton.attention import (
    AttentionSpec,
    kernel,
    launch,
    pieces,
    supports,
    takes_tma,
)
from hetc.bundle.launches import BufferRef, InputRef, StateRef
from hetc.ir.op import Value
from hetc.ir.ops.attention import Attention
from hetc.ir.types import Array, TensorType, dtype_of
from tests.backends.triton.interpreting import Interpreter, passed
from tests.backends.triton.on_device import Device
from tests.backends.triton.tolerance import assert_close, normal

SPEC = AttentionSpec("bf16", heads=4, groups=2, width=16, value_width=16, scale=0.25)


def expected(spec: AttentionSpec, q: Array, k: Array, v: Array, extra: dict[str, Array]) -> Array:
    """What the op gives for one sequence, as rows."""
    operands = {"q": q, "k": k, "v": v} | extra
    values: dict[str, Any] = {
        name: Value(TensorType(dtype_of(array), array.shape)) for name, array in operands.items()
    }
    fields = ("scale", "causal", "window", "chunk", "softcap")
    op = Attention(**values, **{name: getattr(spec, name) for name in fields})
    result = op.semantics(*operands.values())
    rows: Array = result[0].swapaxes(0, 1).reshape(q.shape[2], -1)
    return rows


def check(
    interpreter: Interpreter | Device,
    spec: AttentionSpec,
    lengths: tuple[int, ...],
    blocks: tuple[int, int] = (16, 16),
) -> None:
    """Attention of packed sequences of `lengths` is that of each of them; with TMA and without,
    where it has both forms."""
    if not spec.tma and takes_tma(spec, "sm_90"):
        check(interpreter, replace(spec, tma=True), lengths, blocks)
    draw = np.random.default_rng(sum(lengths))
    starts = np.cumsum([0, *lengths], dtype=np.int32)
    rows = int(starts[-1])
    query = normal(draw, (rows, spec.heads, spec.width), spec.element)
    key = normal(draw, (rows * spec.groups * spec.width,), spec.element)
    value = normal(draw, (rows * spec.groups * spec.value_width,), spec.element)
    out = np.zeros((rows, spec.heads * spec.value_width), query.dtype)
    extra = {
        name: normal(draw, (spec.heads,), spec.head_element)
        for name in ("sinks", "slopes")
        if getattr(spec, name)
    }
    made = kernel(spec)
    grid = (spec.heads, -(-max(lengths) // blocks[0]), len(lengths))
    constants = {"BLOCK_M": blocks[0], "BLOCK_N": blocks[1]}
    arguments = [query, key, value, *extra.values(), starts, out]
    arguments += [key, value] if spec.tma else []
    told = passed(made.parameters, arguments, constants, lambda size: rows * spec.groups)
    interpreter.run(made.source, made.symbol, grid, told, constants)
    for start, length in zip(starts, lengths, strict=False):
        found = out[start : start + length]
        q = query[start : start + length].swapaxes(0, 1)[None]
        k, v = (
            x[start * spec.groups * width :][: length * spec.groups * width].reshape(
                1, spec.groups, length, width
            )
            for x, width in ((key, spec.width), (value, spec.value_width))
        )
        assert_close(found, expected(spec, q, k, v, extra), spec.element)


@pytest.mark.parametrize("element", ["f32", "f16", "bf16"])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"causal": False},
        {"window": 5},
        {"window": 40},
        {"chunk": 8},
        {"chunk": 24, "causal": False},
        {"softcap": 2.0},
        {"sinks": True},
        {"slopes": True},
        {"width": 24, "value_width": 40},
        {"heads": 3, "groups": 3, "width": 8, "value_width": 16},
    ],
    ids=lambda change: "-".join(change) or "causal",
)
def test_attention_is_that_of_the_op(
    interpreter: Interpreter, element: str, change: dict[str, Any]
) -> None:
    check(interpreter, replace(SPEC, element=element, **change), (37, 1, 16), blocks=(16, 32))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("span", [{"window": 20}, {"chunk": 20}, {"window": 33, "chunk": 40}])
@pytest.mark.parametrize("blocks", [(16, 16), (32, 16), (16, 32)])
def test_tiles_that_some_rows_see_whole(
    interpreter: Interpreter, span: dict[str, Any], causal: bool, blocks: tuple[int, int]
) -> None:
    spec = replace(SPEC, heads=1, groups=1, element="f32", causal=causal, **span)
    check(interpreter, spec, (90,), blocks)


SPECS = st.builds(
    AttentionSpec,
    element=st.sampled_from(["f32", "f16", "bf16"]),
    heads=st.just(2),
    groups=st.sampled_from([1, 2]),
    width=st.sampled_from([8, 16, 24, 40, 80]),
    value_width=st.sampled_from([8, 16, 24]),
    scale=st.sampled_from([0.125, 1.0]),
    causal=st.booleans(),
    window=st.none() | st.integers(1, 40),
    chunk=st.none() | st.integers(1, 40),
    softcap=st.none() | st.just(5.0),
    sinks=st.booleans(),
    slopes=st.booleans(),
    head_element=st.sampled_from(["f32", "bf16"]),
)


@settings(max_examples=30)
@given(
    spec=SPECS,
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    blocks=st.tuples(st.sampled_from([16, 32]), st.sampled_from([16, 32])),
)
def test_ragged_batches(
    interpreter: Interpreter, spec: AttentionSpec, lengths: list[int], blocks: tuple[int, int]
) -> None:
    check(interpreter, spec, tuple(lengths), blocks)


@pytest.mark.slow
@settings(max_examples=100)
@given(
    spec=SPECS,
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=4),
    blocks=st.tuples(st.sampled_from([16, 32, 64]), st.sampled_from([16, 32, 64])),
)
def test_longer_ragged_batches(
    interpreter: Interpreter, spec: AttentionSpec, lengths: list[int], blocks: tuple[int, int]
) -> None:
    check(interpreter, spec, tuple(lengths), blocks)


@pytest.mark.parametrize(
    ("width", "sizes"),
    [(8, [16]), (64, [64]), (72, [64, 16]), (80, [64, 16]), (96, [64, 32]), (112, [128]),
     (192, [128, 64]), (256, [256])],
)  # fmt: skip
def test_widths_are_one_or_two_powers_of_two(width: int, sizes: list[int]) -> None:
    found = pieces(width)
    assert [piece.size for piece in found] == sizes
    assert sum(piece.used for piece in found) == width


def test_equal_specs_share_a_kernel_and_others_do_not() -> None:
    assert kernel(SPEC).id == kernel(replace(SPEC)).id
    assert kernel(SPEC).id != kernel(replace(SPEC, scale=0.5)).id


def test_a_launch_binds_what_the_kernel_takes() -> None:
    bound = launch(
        SPEC,
        "attention-0",
        query=BufferRef(name="q"),
        key=StateRef(name="k"),
        value=StateRef(name="v"),
        out=BufferRef(name="o"),
    )
    assert bound.arguments[3] == InputRef(name="starts")
    assert (bound.reads, bound.writes) == (("q", "k", "v"), ("o",))
    assert [[extent.size for extent in axis] for axis in bound.grid] == [["4"], ["S"], ["B"]]
    assert bound.flops == "128*M*S"


def test_what_has_no_kernel_says_why() -> None:
    assert supports(SPEC) is None
    assert supports(replace(SPEC, scale=-1.0)) is not None
    assert supports(replace(SPEC, value_width=512)) is not None
