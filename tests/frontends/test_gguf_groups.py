"""GGUF's own integers and scales: what they stand for is what the gguf package dequantizes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES

from hetc.frontends.sources import ModelSource, open_gguf
from hetc.frontends.sources.gguf_blocks import LAYOUTS, packed4
from hetc.frontends.sources.gguf_groups import Process, groups_of
from hetc.frontends.sources.gguf_tensors import GGUFTensor
from hetc.ir.model import StoredGroups
from hetc.ir.ops.quant import unpacked4
from hetc.ir.types import I8, U8, Array
from tests.frontends.gguf_models import llama_tensors, qwen3_moe_tensors, random_blocks, write_gguf
from tests.frontends.sources_models import tiny_config, tiny_model

Kind = gguf.GGMLQuantizationType


def dequantized(groups: StoredGroups) -> Array:
    """The matrix; what it is made of is as it says."""
    parts = (groups.codes, groups.scale, groups.zero, groups.shift)
    for data in (data for data in parts if data is not None):
        assert data.load().shape == data.shape
        assert data.load().dtype == data.dtype.numpy
    return groups.dequantized()


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_bit_is_that_of_the_gguf_package(name: str) -> None:
    """On blocks of any bits, but for scales that are numbers."""
    layout, kind = LAYOUTS[name], gguf.GGMLQuantizationType[name]
    blocks = random_blocks(kind, 400)
    assert layout.elements == GGML_QUANT_SIZES[kind][0]
    codes = layout.codes(blocks)
    assert codes.dtype == layout.dtype.numpy
    wide = codes.reshape(400, -1, layout.group) * layout.scale(blocks).astype(np.float32)[..., None]
    if layout.shift is not None:
        wide = wide + layout.shift(blocks).astype(np.float32)[..., None]
    expected = gguf.quants.dequantize(blocks, kind)
    np.testing.assert_array_equal(
        wide.reshape(expected.shape).view(np.uint32), expected.view(np.uint32)
    )


def test_halves_of_a_byte_are_the_codes() -> None:
    rng = np.random.default_rng(0)
    for dtype, low, high in ((U8, 0, 16), (I8, -8, 8)):
        codes = rng.integers(low, high, (5, 32)).astype(dtype.numpy)
        np.testing.assert_array_equal(unpacked4(packed4(codes), dtype), codes)


@pytest.fixture(scope="module")
def llama() -> Any:
    return tiny_model(tiny_config("llama", head_dim=64, hidden_size=256, intermediate_size=256))


@pytest.mark.parametrize("name", LAYOUTS)
def test_integers_are_those_of_the_loaded_weights(name: str, llama: Any, tmp_path: Path) -> None:
    """Queries and keys too, whose rows the file has in another order."""
    kind = gguf.GGMLQuantizationType[name]
    source = open_gguf(
        write_gguf(tmp_path / "q.gguf", llama_tensors(llama), config=llama.config, kind=kind)
    )
    assert source.weights is not None
    for weight in source.weights.values():
        assert (weight.groups is not None) == (len(weight.shape) > 1)
        if weight.groups is not None:
            wide = dequantized(weight.groups)
            np.testing.assert_array_equal(wide, weight.load(), weight.name)
    assert not any("widened" in note for note in source.notes)


def test_experts_keep_theirs(tmp_path: Path) -> None:
    """Gates and ups are two tensors of the file, and one of the model."""
    model = tiny_model(tiny_config("qwen3_moe", hidden_size=64, moe_intermediate_size=32))
    source = _experts(model, Kind.Q4_1, tmp_path)
    assert source.weights is not None
    grouped = {name for name, weight in source.weights.items() if weight.groups is not None}
    assert {name for name in grouped if ".experts." in name} == {
        f"model.layers.{layer}.mlp.experts.{part}"
        for layer in range(2)
        for part in ("gate_up_proj", "down_proj")
    }
    for name in grouped:
        groups = source.weights[name].groups
        assert groups is not None
        np.testing.assert_array_equal(dequantized(groups), source.weights[name].load(), name)


def _experts(model: Any, kind: gguf.GGMLQuantizationType, folder: Path) -> ModelSource:
    def change(writer: gguf.GGUFWriter) -> None:
        writer.add_expert_count(4)
        writer.add_expert_used_count(2)
        writer.add_expert_feed_forward_length(32)
        writer.add_key_length(8)
        writer.add_value_length(8)

    tensors, path = qwen3_moe_tensors(model), folder / "moe.gguf"
    return open_gguf(
        write_gguf(
            path,
            tensors,
            config=model.config,
            architecture="qwen3moe",
            kind=kind,
            change=change,
        )
    )


def _turned(arrays: Sequence[Array]) -> Array:
    return arrays[0].T


def _doubled(arrays: Sequence[Array]) -> Array:
    return arrays[0] * 2


def _wants_all_columns(arrays: Sequence[Array]) -> Array:
    return arrays[0].reshape(2, 32, 64)


@pytest.mark.parametrize("process", [_turned, _doubled, _wants_all_columns])
def test_what_moves_more_than_rows_is_widened(process: Process) -> None:
    blocks = random_blocks(Kind.Q8_0, 64 * 2).reshape(64, -1)
    part = GGUFTensor("square", (64, 64), Kind.Q8_0, blocks)
    assert groups_of((64, 64), [part], process) is None
    assert groups_of((64, 64), [part], lambda arrays: arrays[0][::-1]) is not None


def test_kinds_without_codes_are_widened_and_noted(llama: Any, tmp_path: Path) -> None:
    source = open_gguf(
        write_gguf(tmp_path / "q.gguf", llama_tensors(llama), config=llama.config, kind=Kind.MXFP4)
    )
    assert source.weights is not None
    assert all(weight.groups is None for weight in source.weights.values())
    assert "16 quantized tensors can only be widened, token_embd.weight (MXFP4) for one" in (
        source.notes
    )
