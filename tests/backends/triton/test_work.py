"""What the cost model is told of products and attention adds up to what they compute."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hetc.backends.triton import attention, linear
from hetc.backends.triton.attention import AttentionSpec
from hetc.backends.triton.linear import HeadsSpec, LinearSpec, NormSpec, Quantized

PLAIN = LinearSpec("bf16", n=4096, k=1024)
HEADS = HeadsSpec(heads=16, groups=8, width=128, rotary=128)


@pytest.mark.parametrize(
    ("spec", "weight_rows"),
    [
        (PLAIN, 4096),
        (replace(PLAIN, gated=True), 8192),
        (replace(PLAIN, gated=True, tma=True), 8192),
        (replace(PLAIN, heads=HEADS), 4096),
        (replace(PLAIN, weight=Quantized("i4", 64, "f16")), 4096),
    ],
)
def test_tiles_of_a_product_are_the_whole(spec: LinearSpec, weight_rows: int) -> None:
    work = linear.kernel(spec).work
    for config in linear.kernel(spec).configs:
        total = work.blocks(config, 512) * work.tile(config, 512).flops
        assert total == 2 * 512 * weight_rows * spec.k


def test_a_tile_reads_its_rows_and_columns_and_writes_its_result() -> None:
    spec = replace(PLAIN, residual=True, out_element="f32")
    kernel = linear.kernel(spec)
    tiles = {
        (config.constants["BLOCK_M"], config.constants["BLOCK_N"]): kernel.work.tile(config, 512)
        for config in kernel.configs
    }
    assert tiles[128, 128].bytes == (128 + 128) * 1024 * 2 + 128 * 128 * (4 + 4)
    narrow = replace(spec, weight=Quantized("i4", 64, "f16"), residual=False)
    config = linear.kernel(narrow).configs[0]
    assert linear.kernel(narrow).work.tile(config, 16).bytes == (16 + 32 / 4) * 2048 + 16 * 32 * 4


def test_what_few_rows_compute_is_rounded_up_to_a_tile() -> None:
    work = linear.kernel(PLAIN).work
    config = linear.kernel(PLAIN).configs[0]
    assert config.constants["BLOCK_M"] == 16
    assert work.blocks(config, 1) == work.blocks(config, 16) == work.blocks(config, 17) / 2


def test_no_configuration_needs_more_than_a_block_has() -> None:
    for spec in (PLAIN, replace(PLAIN, element="f32"), replace(PLAIN, gated=True)):
        kernel = linear.kernel(spec)
        tiles = [kernel.work.tile(config, 512) for config in kernel.configs]
        assert max(tile.shared_bytes for tile in tiles) <= 227 * 1024
        assert max(tile.accumulators for tile in tiles) <= 128


def test_depth_divides_where_something_does() -> None:
    """Nothing is masked in the inner loop of usual widths; groups of scales are whole."""
    for k in (576, 640, 4096, 14336):
        assert "left" not in linear.kernel(replace(PLAIN, k=k)).source
    assert "left" in linear.kernel(replace(PLAIN, k=570)).source
    quantized = replace(PLAIN, weight=Quantized("i8", 32, "f16"))
    depths = {config.constants["BLOCK_K"] for config in linear.kernel(quantized).configs}
    assert depths == {32}


def test_attention_counts_the_keys_that_are_seen() -> None:
    spec = AttentionSpec("bf16", 8, 2, 128, 64, scale=0.1)
    kernel = attention.kernel(spec)
    config = kernel.configs[0]
    queries = config.constants["BLOCK_M"]
    changes: dict[str, dict[str, Any]] = {
        "causal": {},
        "all": {"causal": False},
        "window": {"window": 128},
        "chunk": {"chunk": 512},
    }
    keys = {
        name: attention.kernel(replace(spec, **change)).work.tile(config, 4096).flops
        / (2 * queries * (128 + 64))
        for name, change in changes.items()
    }
    assert keys == {
        "causal": (4096 + queries) / 2,
        "all": 4096,
        "window": 128 + queries,
        "chunk": 512 + queries,
    }
    assert kernel.work.blocks(config, 4096) == 8 * 4096 / queries


def test_wide_heads_have_configurations() -> None:
    for width in (64, 128, 192, 256):
        assert attention.kernel(AttentionSpec("bf16", 8, 8, width, width, scale=0.1)).configs
        heads = HeadsSpec(8, 0, width, norm=NormSpec(1e-6)) if width != 192 else None
        assert linear.kernel(replace(PLAIN, n=8 * width, heads=heads)).configs
