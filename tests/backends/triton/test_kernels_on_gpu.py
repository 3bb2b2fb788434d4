"""Products and attention on a GPU, against the IR's ops: what the interpreter does not know, such
as shared memory, pipelines and tensor cores, is in the way here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hetc.backends.triton.attention import AttentionSpec
from hetc.backends.triton.linear import HeadsSpec, LinearSpec, NormSpec, Quantized
from tests.backends.triton import test_attention, test_linear
from tests.backends.triton.on_device import Device

pytestmark = pytest.mark.gpu

PLAIN = LinearSpec("bf16", n=384, k=320)
HEADS = HeadsSpec(heads=4, groups=2, width=64, rotary=64, equal_halves=True)
OF_HEADS = LinearSpec("bf16", n=512, k=320, bias=True, heads=HEADS)
ATTENTION = AttentionSpec("bf16", heads=4, groups=2, width=64, value_width=64, scale=0.125)
LENGTHS = (150, 1, 77)
ELEMENTS = ("f32", "f16", "bf16")


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("blocks", [(16, 64, 4), (64, 64, 4), (128, 128, 8), (128, 256, 8)])
@pytest.mark.parametrize(
    "change",
    [
        {"residual": True},
        {"n": 333, "k": 200, "bias": True, "activation": "gelu"},
        {"gated": True, "activation": "silu"},
        {"gated": True, "n": 336, "activation": "gelu_tanh", "bias": True},
        {"norm": NormSpec(1e-6, "f32", 1.0)},
        {"out_element": "f32", "softcap": 30.0},
        {"weight": Quantized("i4", 64, "f16")},
        {"weight": Quantized("u4", 32, "f32", zero="u8", shift="f32")},
        {"weight": Quantized("i8", 32, "f32")},
    ],
    ids="-".join,
)
def test_products(
    tmp_path: Path, change: dict[str, Any], blocks: tuple[int, int, int], element: str
) -> None:
    spec = replace(PLAIN, element=element, **change)
    rows, columns, warps = blocks
    if spec.gated or element == "f32":
        columns //= 2
    device = Device(tmp_path, warps=warps, stages=2 if element == "f32" else 3)
    test_linear.check(device, spec, LENGTHS, (rows, columns))


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("blocks", [(16, 64, 4), (64, 64, 4), (128, 64, 8)])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"rotary": 32},
        {"interleaved": True, "equal_halves": False},
        {"norm": NormSpec(1e-6, "f32")},
        {"rotary": 0},
    ],
    ids=lambda change: "-".join(change) or "rotary",
)
def test_heads(
    tmp_path: Path, change: dict[str, Any], blocks: tuple[int, int, int], element: str
) -> None:
    spec = replace(OF_HEADS, element=element, heads=replace(HEADS, **change))
    rows, columns, warps = blocks
    device = Device(tmp_path, warps=warps, stages=2 if element == "f32" else 3)
    test_linear.check(device, spec, LENGTHS, (rows, columns))


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("blocks", [(64, 32, 4), (64, 64, 4), (128, 64, 8)])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"causal": False},
        {"window": 50, "sinks": True},
        {"chunk": 64},
        {"softcap": 20.0},
        {"slopes": True},
        {"width": 128, "value_width": 128},
        {"width": 96, "value_width": 80},
    ],
    ids=lambda change: "-".join(change) or "causal",
)
def test_attention_of_prompts(
    tmp_path: Path, change: dict[str, Any], blocks: tuple[int, int, int], element: str
) -> None:
    rows, columns, warps = blocks
    # Of f32 a tile takes twice the shared memory.
    columns //= 2 if element == "f32" else 1
    device = Device(tmp_path, warps=warps, stages=2)
    test_attention.check(
        device, replace(ATTENTION, element=element, **change), LENGTHS, (rows, columns)
    )
