"""Matrix products in Triton's interpreter, against the IR's ops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetc.backends.triton.linear import (
    HeadsSpec,
    LinearSpec,
    NormSpec,
    Quantized,
    kernel,
    launch,
    supports,
    takes_tma,
)
from hetc.bundle.launches import BufferRef, SizeOf, StateRef, WeightRef
from tests.backends.triton.interpreting import Interpreter, passed
from tests.backends.triton.linear_cases import expected, operands
from tests.backends.triton.on_device import Device
from tests.backends.triton.tolerance import assert_close

SPEC = LinearSpec("bf16", n=48, k=96)
HEADS = HeadsSpec(heads=4, groups=2, width=16, rotary=16)
OF_HEADS = LinearSpec("bf16", n=128, k=64, heads=HEADS)
ELEMENTS = ("f32", "f16", "bf16")


def check(
    interpreter: Interpreter | Device,
    spec: LinearSpec,
    lengths: tuple[int, ...] = (21,),
    blocks: tuple[int, int] = (16, 32),
) -> None:
    """The kernel writes what the ops compute, for sequences of `lengths`; with TMA and without,
    where it has both forms."""
    if not spec.tma and takes_tma(spec, "sm_90"):
        check(interpreter, replace(spec, tma=True), lengths, blocks)
    assert supports(spec) is None
    given = operands(spec, lengths)
    made, rows = kernel(spec), sum(lengths)
    if spec.tma and spec.heads is not None:
        # A tile holds whole heads.
        blocks = (blocks[0], max(2 * blocks[1], spec.heads.width))
    grid = -(-rows // blocks[0]) * -(-spec.columns // blocks[1])
    # What divides k is compiled in.
    block_k = min(config.constants["BLOCK_K"] for config in made.configs)
    constants = {"BLOCK_M": blocks[0], "BLOCK_N": blocks[1], "BLOCK_K": block_k, "GROUP_M": 2}
    arguments = passed(made.parameters, [*given.values(), rows], constants, int)
    interpreter.run(made.source, made.symbol, (grid,), arguments, constants)
    for name, true in expected(spec, given).items():
        assert_close(given[name], true, spec.element)


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"n": 50, "k": 70},
        {"n": 33, "k": 37, "bias": True},
        {"bias": True, "residual": True},
        {"bias": True, "activation": "gelu"},
        {"gated": True, "activation": "silu"},
        {"gated": True, "activation": "gelu_tanh", "bias": True},
        {"gated": True, "activation": "silu", "n": 44, "residual": True, "scale": 0.5},
        {"activation": "quick_gelu"},
        {"activation": "relu_squared"},
        {"out_element": "f32", "softcap": 3.0},
        {"residual": True, "scale": 0.22},
        {"norm": NormSpec(1e-5)},
        {"norm": NormSpec(1e-5, weight="f32", offset=1.0), "gated": True, "k": 40},
    ],
    ids=lambda change: "-".join(change) or "plain",
)
def test_products(interpreter: Interpreter, element: str, change: dict[str, Any]) -> None:
    check(interpreter, replace(SPEC, element=element, **change))


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize(
    "form",
    [
        Quantized("i8", 32, "f32"),
        Quantized("u8", 32, "f16", zero="u8"),
        Quantized("i4", 32, "bf16"),
        Quantized("u4", 16, "f32", zero="u8", shift="f32"),
        Quantized("i8", 96, "f32"),
        Quantized("f8e4m3"),
        Quantized("f8e4m3", 96, "f32"),
    ],
    ids=lambda form: f"{form.stored}-{form.group}",
)
def test_quantized_weights(interpreter: Interpreter, element: str, form: Quantized) -> None:
    check(interpreter, replace(SPEC, element=element, weight=form))


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"interleaved": True},
        {"rotary": 8},
        {"rotary": 4, "interleaved": True},
        {"rotary": 0},
        {"equal_halves": True},
        {"equal_halves": True, "interleaved": True, "table": "bf16"},
        {"norm": NormSpec(1e-6, weight="f32", offset=1.0)},
        {"norm": NormSpec(1e-6), "rotary": 8},
    ],
    ids=lambda change: "-".join(change) or "rotary",
)
def test_heads(interpreter: Interpreter, element: str, change: dict[str, Any]) -> None:
    spec = replace(OF_HEADS, element=element, bias=True, heads=replace(HEADS, **change))
    check(interpreter, spec, (17, 1, 9))


def test_heads_of_any_even_width(interpreter: Interpreter) -> None:
    heads = HeadsSpec(heads=3, groups=1, width=20, rotary=12)
    check(interpreter, replace(OF_HEADS, n=100, heads=heads, norm=NormSpec(1e-6, "bf16")), (5, 30))


def test_heads_of_queries_only(interpreter: Interpreter) -> None:
    heads = replace(HEADS, groups=0, norm=NormSpec(1e-6, "f32"))
    check(interpreter, replace(OF_HEADS, n=64, heads=heads), (5, 30))


FORMS = st.builds(
    Quantized,
    stored=st.sampled_from(["i8", "u8", "i4", "u4"]),
    group=st.sampled_from([8, 16, 32]),
    scale=st.sampled_from(["f32", "f16"]),
    zero=st.sampled_from(["", "u8", "f32"]),
    shift=st.sampled_from(["", "f32"]),
)


def _heads(draw: st.DrawFn) -> LinearSpec:
    width = draw(st.sampled_from([8, 12, 16, 32]))
    norm = draw(st.none() | st.builds(NormSpec, st.just(1e-6), st.sampled_from(["", "f32"])))
    heads = HeadsSpec(
        heads=draw(st.integers(1, 3)),
        groups=draw(st.integers(0, 2)),
        width=width,
        norm=norm if width != 12 else None,
        rotary=draw(st.sampled_from([0, 4, width])),
        interleaved=draw(st.booleans()),
    )
    weight = draw(st.none() | FORMS)
    return LinearSpec(
        element=draw(st.sampled_from(ELEMENTS)),
        n=(heads.heads + 2 * heads.groups) * width,
        k=draw(st.integers(1, 80) if weight is None else st.sampled_from([32, 96])),
        bias=draw(st.booleans()),
        weight=weight,
        heads=heads,
    )


PRODUCTS = st.builds(
    LinearSpec,
    element=st.sampled_from(ELEMENTS),
    n=st.integers(1, 100),
    k=st.integers(1, 100) | st.sampled_from([64, 128]),
    bias=st.booleans(),
    residual=st.booleans(),
    activation=st.sampled_from(["", "silu", "relu", "tanh", "sigmoid"]),
    gated=st.booleans(),
    out_element=st.sampled_from(["", "f32"]),
    norm=st.none() | st.builds(NormSpec, st.just(1e-5), st.sampled_from(["", "f32", "bf16"])),
) | st.builds(
    LinearSpec,
    element=st.sampled_from(ELEMENTS),
    n=st.integers(1, 70),
    k=st.sampled_from([32, 64, 96]),
    gated=st.booleans(),
    weight=FORMS,
)
SPECS = PRODUCTS | st.composite(_heads)()
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=3)
BLOCKS = st.tuples(st.sampled_from([16, 32]), st.sampled_from([16, 32]))


@settings(max_examples=40)
@given(spec=SPECS, lengths=LENGTHS, blocks=BLOCKS)
def test_any_product(
    interpreter: Interpreter,
    spec: LinearSpec,
    lengths: list[int],
    blocks: tuple[int, int],
) -> None:
    check(interpreter, spec, tuple(lengths), blocks)


@pytest.mark.slow
@settings(max_examples=300)
@given(spec=SPECS, lengths=LENGTHS, blocks=BLOCKS)
def test_many_products(
    interpreter: Interpreter,
    spec: LinearSpec,
    lengths: list[int],
    blocks: tuple[int, int],
) -> None:
    check(interpreter, spec, tuple(lengths), blocks)


def test_a_launch_binds_what_the_kernel_takes() -> None:
    spec = replace(SPEC, residual=True, out_element="f32")
    bound = launch(
        spec,
        "linear-0",
        rows="B",
        x=BufferRef(name="x"),
        weight=WeightRef(name="w"),
        residual=BufferRef(name="h"),
        out=BufferRef(name="h"),
    )
    assert bound.arguments[-1] == SizeOf(size="B")
    assert (bound.reads, bound.writes) == (("x", "h"), ("h",))
    assert [[extent.size for extent in axis] for axis in bound.grid] == [["B", "48"], [], []]
    assert bound.flops == "9216*B"


def test_heads_are_bound_to_states() -> None:
    bound = launch(
        OF_HEADS,
        "heads-0",
        x=BufferRef(name="x"),
        weight=WeightRef(name="w"),
        cos=BufferRef(name="cos"),
        sin=BufferRef(name="sin"),
        query=BufferRef(name="q"),
        key=StateRef(name="k"),
        value=StateRef(name="v"),
    )
    assert bound.reads == ("x", "cos", "sin")
    assert bound.writes == ("q", "k", "v")
    assert [extent.size for extent in bound.grid[0]] == ["M", "64"]


def test_a_tile_of_heads_with_norms_holds_whole_heads() -> None:
    spec = replace(OF_HEADS, n=2 * 256, heads=HeadsSpec(1, 0, 256, norm=NormSpec(1e-6)))
    spec = replace(spec, n=256)
    assert {config.constants["BLOCK_N"] for config in kernel(spec).configs} == {128}


@pytest.mark.parametrize(
    ("spec", "arch", "told"),
    [
        (replace(OF_HEADS, n=100), "sm_90", "100 columns are not the heads"),
        (replace(OF_HEADS, n=136, heads=replace(HEADS, width=17)), "sm_90", "odd width, 17"),
        (
            replace(OF_HEADS, n=192, heads=replace(HEADS, width=24, norm=NormSpec(1e-6))),
            "sm_90",
            "power of two up to 256, not 24",
        ),
        (replace(OF_HEADS, residual=True), "sm_90", "a bias and a norm only"),
        (replace(SPEC, weight=Quantized("f8e4m3")), "sm_80", "sm_80 has no f8e4m3"),
        (replace(SPEC, k=95, weight=Quantized("i4")), "sm_90", "of two rows"),
    ],
)
def test_what_has_no_kernel_says_why(spec: LinearSpec, arch: str, told: str) -> None:
    assert told in (supports(spec, arch) or "")
