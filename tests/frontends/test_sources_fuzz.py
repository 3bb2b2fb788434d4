"""Damaged configurations, safetensors and GGUF files: each opens, or is refused by one clear
error."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetc.frontends.open_model import open_model
from tests.frontends.fuzzing import JSON_VALUES, damaged, outcome
from tests.frontends.gguf_models import llama_tensors, write_gguf
from tests.frontends.sources_models import save, tiny_config, tiny_model

MORE = (
    *("rope_scaling", "rope_parameters", "quantization_config", "layer_types", "sliding_window"),
    *("architectures", "auto_map", "text_config", "head_dim", "vision_config", "dtype"),
)


def opened(path: Path) -> str:
    """The outcome of opening the model at `path` and reading all of its weights."""

    def work() -> None:
        for weight in (open_model(path).weights or {}).values():
            weight.load()

    return outcome(work)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_model(tiny_config("llama", layers=1)), tmp_path_factory.mktemp("hf") / "tiny")


@pytest.fixture(scope="module")
def config(directory: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def weights(directory: Path) -> bytes:
    return (directory / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tiny_model(tiny_config("llama", layers=1, head_dim=8))
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return write_gguf(path, llama_tensors(model), config=model.config)


def _configured(directory: Path, config: dict[str, Any], changes: dict[str, Any]) -> str:
    path = directory / "config.json"
    try:
        path.write_text(json.dumps(config | changes))
        return opened(directory)
    finally:
        path.write_text(json.dumps(config))


CHANGES = st.dictionaries(
    st.sampled_from(
        (
            *MORE,
            *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
            *("num_key_value_heads", "intermediate_size", "max_position_embeddings", "hidden_act"),
            *("rms_norm_eps", "tie_word_embeddings", "model_type", "pad_token_id"),
        )
    ),
    st.sampled_from(JSON_VALUES),
    min_size=1,
    max_size=2,
)


@settings(max_examples=50)
@given(changes=CHANGES)
def test_changed_configurations(
    directory: Path, config: dict[str, Any], changes: dict[str, Any]
) -> None:
    _configured(directory, config, changes)


@pytest.mark.slow
@settings(max_examples=600)
@given(changes=CHANGES)
def test_many_changed_configurations(
    directory: Path, config: dict[str, Any], changes: dict[str, Any]
) -> None:
    _configured(directory, config, changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 2**70},
        {"num_hidden_layers": 2**20},
        {"architectures": 7},
        {"architectures": [None]},
        {"text_config": 1},
        {"vocab_size": 2**62},
        {"hidden_size": 2**62},
        {"num_attention_heads": 0},
    ],
)
def test_absurd_configurations(
    directory: Path, config: dict[str, Any], changes: dict[str, Any]
) -> None:
    assert _configured(directory, config, changes) == "HETC-I055"


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 50_000, "", "[]", "nul"])
def test_configurations_that_are_none(
    directory: Path, config: dict[str, Any], content: str
) -> None:
    path = directory / "config.json"
    try:
        path.write_text(content)
        assert opened(directory) == "HETC-I051"
    finally:
        path.write_text(json.dumps(config))


@st.composite
def headers(draw: Any, data: bytes) -> bytes:
    """A safetensors file whose header says something else."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    name = draw(st.sampled_from(sorted(header)))
    kind = draw(st.sampled_from(("shape", "dtype", "data_offsets", "name", "entry")))
    absurd = draw(st.sampled_from((*JSON_VALUES, [2**62], [2**40, 2**40], [-1], [8, 4], "F64")))
    if kind == "name":
        header[draw(st.sampled_from(("", "x", "../../a", "\n")))] = header.pop(name)
    elif kind == "entry" or not isinstance(header[name], dict):
        header[name] = absurd
    else:
        header[name][kind] = absurd
    changed = json.dumps(header).encode()
    return struct.pack("<Q", len(changed)) + changed + data[8 + length :]


@settings(max_examples=60)
@given(data=st.data())
def test_damaged_safetensors(directory: Path, weights: bytes, data: st.DataObject) -> None:
    made = data.draw(st.one_of(headers(weights), damaged(weights, within=600)))
    path = directory / "model.safetensors"
    try:
        path.write_bytes(made)
        opened(directory)
    finally:
        path.write_bytes(weights)


@pytest.mark.parametrize("length", [2**62, 2**63, 2**64 - 1, 100_000_001, 0])
def test_absurd_headers(directory: Path, weights: bytes, length: int) -> None:
    path = directory / "model.safetensors"
    try:
        path.write_bytes(struct.pack("<Q", length) + weights[8:])
        assert opened(directory) == "HETC-I056"
    finally:
        path.write_bytes(weights)


@settings(max_examples=30)
@given(data=st.data())
def test_damaged_gguf(gguf: Path, data: st.DataObject) -> None:
    _damaged_gguf(gguf, data)


@pytest.mark.slow
@settings(max_examples=400)
@given(data=st.data())
def test_many_damaged_gguf(gguf: Path, data: st.DataObject) -> None:
    _damaged_gguf(gguf, data)


def _damaged_gguf(gguf: Path, data: st.DataObject) -> None:
    whole = gguf.read_bytes()
    try:
        gguf.write_bytes(data.draw(damaged(whole, within=2600)))
        opened(gguf)
    finally:
        gguf.write_bytes(whole)
